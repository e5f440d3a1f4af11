"""What every process does: end on a signal, say things to whoever started it."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from logsvc.errors import BusError, NewerFormat, StoreAway

T = TypeVar("T")

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds between tries; each pause is twice the one before."""

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
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(number for number, task in enumerate(tasks) if task.done())
        for task in tasks:
            task.cancel()
    return ended


async def persist(work: Callable[[], Awaitable[T]], doing: str) -> T:
    """What `work` gives, tried again for as long as Kafka or ClickHouse is away; the log says so once a reason.

    Raises whatever else it raises.
    """
    said = ""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await work()
        except NewerFormat:
            raise
        except (BusError, StoreAway) as error:
            if str(error) != said:
                said = str(error)
                logger.warning("%s waits: %s", doing, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def say(text: str) -> None:
    """To the person at the terminal; the log is for what happens later."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
