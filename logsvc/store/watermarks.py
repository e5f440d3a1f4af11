"""Where the store has everything: asked of the bus and of the store, so that either may be away."""

import asyncio

from logsvc.bus.protocol import Bus
from logsvc.errors import BusError, StoreError
from logsvc.store.protocol import StoreReader


async def watermark(bus: Bus, store: StoreReader, partition: int) -> int:
    """The larger of what the store's group has committed and what it has recorded in the store.

    Both are true once they are there, so the larger one is the newer. Raises BusError where neither can be had.
    """
    committed, recorded = await asyncio.gather(
        bus.watermark(partition), store.watermarks(bus.epoch), return_exceptions=True
    )
    if isinstance(recorded, BaseException):
        if not isinstance(recorded, StoreError):
            raise recorded
        recorded = {}
    if isinstance(committed, BaseException):
        if not isinstance(committed, BusError) or partition not in recorded:
            raise committed
        return recorded[partition]
    return max(committed, recorded.get(partition, 0))
