"""Epochs as the roles use them: which ones the store still lacks something of, and when the next one begins."""

from logsvc.bus.epochs import Epoch, Epochs
from logsvc.store.protocol import StoreReader


async def is_stored(epoch: Epoch, store: StoreReader) -> bool:
    """Whether an epoch is over and the store has all of it. Raises StoreAway."""
    if epoch.sealed is None:
        return False
    marks = await store.watermarks(epoch.number)
    return all(marks.get(partition, 0) >= end for partition, end in epoch.sealed.items())


async def next_epoch(epochs: Epochs, after: int) -> Epoch:
    """The epoch that follows one, once it takes lines."""
    while after + 1 not in epochs.all:
        await epochs.changed()
    return epochs.all[after + 1]


async def until_sealed(epochs: Epochs, number: int) -> None:
    """Wait until an epoch takes no more lines."""
    while epochs.all[number].sealed is None:
        await epochs.changed()
