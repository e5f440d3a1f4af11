"""Spreads requests over time."""

import asyncio


class Pace:
    """So many turns a second at most, each in the order in which they were asked for."""

    def __init__(self, per_second: float) -> None:
        self._every = 1 / per_second
        self._next = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody would have to wait."""
        return asyncio.get_running_loop().time() >= self._next

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = asyncio.get_running_loop().time()
        begin = max(self._next, now)
        self._next = begin + self._every
        await asyncio.sleep(begin - now)
