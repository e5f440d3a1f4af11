"""Waiting for a state. Tests never sleep on their own; what can't be awaited is polled here, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 60.0
"""Seconds. Far beyond what any state takes, so that a busy machine fails no test: it only ends one that hangs."""

_PAUSE = 0.005


async def until(
    condition: Callable[[], T | Awaitable[T]], deadline: float = DEADLINE, what: str = "", pause: float = _PAUSE
) -> T:
    """Call `condition` (plain or async) until it returns something true, and return that.

    Raises AssertionError after `deadline` seconds, naming `what` was waited for. `pause`: seconds between two calls,
    for a condition that costs something.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        result = await value if isawaitable(value) else value
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline:g} s still not so: {what or _name(condition)}")
        # The one pause in the tests: files, processes and sockets of others give no event to await.
        await asyncio.sleep(pause)


def eventually(condition: Callable[[], T], deadline: float = DEADLINE, what: str = "") -> T:
    """`until` for tests without a running event loop."""
    return asyncio.run(until(condition, deadline, what))


def _name(condition: Callable[..., object]) -> str:
    code = getattr(condition, "__code__", None)
    return f"{condition.__qualname__} at {code.co_filename}:{code.co_firstlineno}" if code else repr(condition)
