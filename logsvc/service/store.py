"""`logsvc store`: from Kafka into ClickHouse. Start as many as there is work for; they share the partitions."""

import asyncio
from functools import partial
from typing import Final

from logsvc import telemetry
from logsvc.bus.dead_letters import set_aside
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.config import Settings
from logsvc.service.epochs import is_stored, next_epoch, until_sealed
from logsvc.service.lifecycle import first_of, persist, say, signals
from logsvc.service.retention import retain
from logsvc.store.protocol import Store
from logsvc.store.server import ServerStore
from logsvc.store.writer import StoreLoop

_LOOK: Final = 0.25
"""Seconds between two looks at what the other writers of a sealed epoch have left to do."""


async def store(settings: Settings) -> int:
    """Store until a signal comes. What was inserted and not committed then is inserted again, and is one row.

    Raises ConfigError, BusError, StoreError where it can't start.
    """
    with signals() as stop:
        server = await ServerStore.open(settings.clickhouse, dict(enumerate(settings.store.retention_days)))
        try:
            async with Epochs.open(settings.kafka) as epochs:
                await first_of(stop.wait(), retain(server), _store_epochs(settings, epochs, server))
        finally:
            await server.close()
    return 0


async def _store_epochs(settings: Settings, epochs: Epochs, server: Store) -> None:
    """Epoch by epoch, each to its end before the next is begun: what is stored of one comes after all before it."""
    epoch = await _first_lacking(epochs, server)
    say("logsvc stores what is on Kafka")
    while True:
        async with KafkaBus.open(settings.kafka, epoch.number) as bus:
            loop = StoreLoop(
                bus.group(),
                server,
                bus.epoch,
                inserts=settings.clickhouse.inserts,
                set_aside=partial(set_aside, settings.kafka),
            )
            telemetry.follow_store(loop)
            await first_of(loop.run(), _until_stored(epochs, epoch.number, server))
        epoch = await next_epoch(epochs, epoch.number)


async def _first_lacking(epochs: Epochs, server: Store) -> Epoch:
    for number in sorted(epochs.all):
        epoch = epochs.all[number]
        if not await persist(partial(is_stored, epoch, server), "the store"):
            return epoch
    return epochs.current


async def _until_stored(epochs: Epochs, number: int, server: Store) -> None:
    await until_sealed(epochs, number)
    stored = partial(is_stored, epochs.all[number], server)
    while not await persist(stored, "the store"):  # noqa: ASYNC110 - others store too, and tell only the store
        await asyncio.sleep(_LOOK)
