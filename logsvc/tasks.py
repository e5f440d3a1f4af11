"""Tasks that work behind a block, and work that ends when it is to end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup for what works behind the block; an error of the block leaves it as it is, not in a group.

    So does an error that block and tasks have all met with.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len({repr(error) for error in group.exceptions}) == 1:
            raise group.exceptions[0] from None
        raise


async def apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `work` gives, in a task of its own: a cancellation is raised whatever the work raises at the same moment.

    For whoever tries again what has failed. A TaskGroup of CPython 3.11 that is cancelled while one of its tasks fails
    raises the failure alone; taken for a failure, that would be tried again, and never end.
    """
    task = asyncio.create_task(work())
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()


async def any_of(*questions: Coroutine[Any, Any, bool]) -> bool:
    """Whether one of them is answered by yes, as soon as one is. Raises what one of them has raised where none is."""
    asked = [asyncio.ensure_future(question) for question in questions]
    raised: Exception | None = None
    try:
        for answer in asyncio.as_completed(asked):
            try:
                if await answer:
                    return True
            except Exception as error:  # noqa: BLE001 - raised below, where no other answer says yes
                raised = error
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    if raised is not None:
        raise raised
    return False
