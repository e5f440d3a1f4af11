"""What this process waits for: a Kafka or a ClickHouse that is away. All that is tried again at the start of something
is tried again here.

The log says once that something waits, and why, and once that it goes on. `waits` is what the process waits for at this
moment, for probes and metrics; like the metrics it is one for the process.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from logsvc.errors import BusAway, BusError, LogsvcError, NewerFormat, StoreAway, StoreError, WrongTopic
from logsvc.tasks import apart

T = TypeVar("T")

AWAY: Final = (BusAway, StoreAway)
"""What may be over in a moment; anything else wants somebody to act, and at the start of a process ends it."""
TROUBLE: Final = (BusError, StoreError)
"""What a process that has worked already waits out, but for FINAL: its settings were right."""
FINAL: Final = (NewerFormat, WrongTopic)
"""What is never waited out: to go on would lose lines, or mix them with others."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
"""Seconds between tries: each pause is twice the one before, and a part of it is left to chance."""
_SETTLED: Final = 5.0
"""Seconds after which what was begun again counts as going on."""

_waiting: dict[object, str] = {}

logger = logging.getLogger(__name__)


def waits() -> list[str]:
    """What the process waits for now, a sentence each."""
    return list(_waiting.values())


class _Wait:
    """One thing that may have to wait."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._pause = _FIRST_PAUSE
        self._said: str | None = None

    async def pause(self, error: LogsvcError) -> None:
        """Until the next try. Says why where that is news."""
        _waiting[self] = f"{self._doing} waits: {error}"
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("%s waits: %s", self._doing, error)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes out, guards nothing
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def over(self) -> None:
        """It goes on."""
        self._pause = _FIRST_PAUSE
        if self._said is not None:
            self._said = None
            logger.info("%s goes on", self._doing)
        self.forget()

    def forget(self) -> None:
        _waiting.pop(self, None)


async def persist(work: Callable[[], Awaitable[T]], doing: str, errors: tuple[type[LogsvcError], ...] = AWAY) -> T:
    """What `work` gives, tried again for as long as it raises one of `errors`.

    Raises whatever else it raises; FINAL always.
    """
    wait = _Wait(doing)
    try:
        while True:
            try:
                result = await work()
            except FINAL:
                raise
            except errors as error:
                await wait.pause(error)
            else:
                wait.over()
                return result
    finally:
        wait.forget()


@asynccontextmanager
async def opened(
    opening: Callable[[], AbstractAsyncContextManager[T]], doing: str, errors: tuple[type[LogsvcError], ...] = AWAY
) -> AsyncIterator[T]:
    """What `opening` gives, for the block, tried again as `persist` does."""
    async with AsyncExitStack() as stack:
        yield await persist(lambda: stack.enter_async_context(opening()), doing, errors)


async def keep_up(
    work: Callable[[], Coroutine[Any, Any, None]], doing: str, errors: tuple[type[LogsvcError], ...] = TROUBLE
) -> None:
    """Run what lasts, and again whenever one of `errors` has ended it.

    Raises whatever else it raises; FINAL always.
    """
    wait = _Wait(doing)
    loop = asyncio.get_running_loop()
    try:
        while True:
            settled = loop.call_later(_SETTLED, wait.over)
            try:
                return await apart(work)
            except Exception as error:
                trouble = _trouble(error, errors)
                if trouble is None:
                    raise
            finally:
                settled.cancel()
            await wait.pause(trouble)
    finally:
        wait.forget()


def _trouble(error: Exception, errors: tuple[type[LogsvcError], ...]) -> LogsvcError | None:
    """The error, or the first of a group, where there is nothing in it but what is waited out."""
    if isinstance(error, ExceptionGroup):
        found = [_trouble(each, errors) for each in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, errors) and not isinstance(error, FINAL) else None
