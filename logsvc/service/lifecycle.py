"""What every process does: end on a signal, say things to whoever started it."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from logsvc.tasks import background

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Where a service without tokens may listen."""


@contextmanager
def signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set. The second one ends the process as if nothing were here."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    both = (signal.SIGINT, signal.SIGTERM)

    def once() -> None:
        stop.set()
        for number in both:
            loop.remove_signal_handler(number)

    for number in both:
        loop.add_signal_handler(number, once)
    try:
        yield stop
    finally:
        for number in both:
            loop.remove_signal_handler(number)


async def first_of(*works: Coroutine[Any, Any, object]) -> int:
    """Run these together until one of them ends, then cancel the others; which one it was. Raises what it raised."""
    async with background() as group:
        tasks = [group.create_task(work) for work in works]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(number for number, task in enumerate(tasks) if task.done())
        for task in tasks:
            task.cancel()
    return ended


def settle() -> None:
    """Tell the garbage collector that start-up is over: what there is now stays, and what comes is mostly no garbage.

    As Python has it, a server of a thousand tails looks through all of its modules every second or two.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def say(text: str) -> None:
    """To the person at the terminal; the log is for what happens later."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
