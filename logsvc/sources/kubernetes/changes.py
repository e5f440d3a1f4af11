"""Waiting for a state of one's own."""

import asyncio
from collections.abc import Callable


class Changes:
    """Has those who wait for a state look again. Not a Condition: it happens after every read, mostly for nobody."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def happened(self) -> None:
        """Something is not as it was."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, state: Callable[[], bool]) -> None:
        """Wait until `state` is true."""
        while not state():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
