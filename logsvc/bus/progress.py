"""How far the store is: asked of the bus and of the store, so that either may be away."""

import asyncio
from collections.abc import Awaitable, Mapping

from logsvc.errors import BusError, StoreError


async def progress(committed: Awaitable[Mapping[int, int]], recorded: Awaitable[Mapping[int, int]]) -> dict[int, int]:
    """By partition the larger watermark of what the store's group has committed and what it has recorded in the store.

    Each is true once it is there, so the larger one is the newer. Raises BusError where neither can be had.
    """
    told = await asyncio.gather(committed, recorded, return_exceptions=True)
    marks: dict[int, int] = {}
    for one in told:
        if isinstance(one, BusError | StoreError):
            continue
        if isinstance(one, BaseException):
            raise one
        marks |= {partition: max(offset, marks.get(partition, 0)) for partition, offset in one.items()}
    if isinstance(told[0], BusError) and isinstance(told[1], StoreError):
        raise told[0]
    return marks
