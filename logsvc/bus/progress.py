"""How far the store is: asked of the bus and of the store, so that either may be away."""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Final

from logsvc.errors import BusError, StoreError

PATIENCE: Final = 0.5
"""Seconds for which the store is waited for once the bus has answered: who opens a tail or pages waits for this."""


async def progress(committed: Awaitable[Mapping[int, int]], recorded: Awaitable[Mapping[int, int]]) -> dict[int, int]:
    """By partition the larger watermark of what the store's group has committed and what it has recorded in the store.

    Each is true once it is there, so the larger one is the newer; without that of a store that is slow it may be low,
    which is safe: the bus has what is above it. Raises BusError where neither can be had.
    """
    telling = asyncio.ensure_future(recorded)
    try:
        try:
            marks = dict(await committed)
        except BusError as away:
            try:
                return dict(await telling)
            except StoreError:
                raise away from None
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for partition, offset in (await telling).items():
                    marks[partition] = max(offset, marks.get(partition, 0))
        return marks
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
