"""A value that others wait for changes of."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """Belongs to one event loop. A change is another object, never the same one changed in place."""

    def __init__(self, value: T) -> None:
        self.value = value
        self._change = asyncio.Event()

    def set(self, value: T) -> None:
        self.value = value
        self._change.set()
        self._change = asyncio.Event()

    async def changed(self, seen: T) -> T:
        """Wait until the value is another one than `seen`; returns it."""
        while self.value is seen:
            await self._change.wait()
        return self.value
