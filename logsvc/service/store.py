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
        async with KafkaBus.open(settings.kafka, epoch.number, recorded=server.watermarks) as bus:
            loop = StoreLoop(
                bus.group(),
                server,
                bus.epoch,
                inserts=settings.clickhouse.inserts,
                set_aside=partial(set_aside, settings.kafka),
            )
            telemetry.follow_store(loop)
            await first_of(loop.run(), _until_stored(epochs, bus, server))
        epoch = await next_epoch(epochs, epoch.number)


async def _first_lacking(epochs: Epochs, server: Store) -> Epoch:
    for number in sorted(epochs.all):
        epoch = epochs.all[number]
        if not await persist(partial(is_stored, epoch, server), "the store"):
            return epoch
    return epochs.current


async def _until_stored(epochs: Epochs, bus: KafkaBus, server: Store) -> None:
    """Wait until an epoch is over and stored.

    A writer that was killed may have committed what it has not recorded, and nothing may follow in that partition. So
    what the group has committed is recorded, at first and in the end.
    """
    record = partial(_record_committed, bus, server)
    await persist(record, "the store")
    await until_sealed(epochs, bus.epoch)
    ends = epochs.all[bus.epoch].sealed or {}
    while True:
        marks = await persist(record, "the store")
        if all(marks[partition] >= end for partition, end in ends.items()):
            return
        await asyncio.sleep(_LOOK)  # others store too, and tell only Kafka and the store


async def _record_committed(bus: KafkaBus, server: Store) -> dict[int, int]:
    """Record the watermarks that the group has committed; all watermarks. Raises BusError, StoreError."""
    marks = await bus.watermarks(range(bus.partitions))
    recorded = await server.watermarks(bus.epoch)
    if newer := {partition: mark for partition, mark in marks.items() if mark > recorded.get(partition, 0)}:
        await server.record(bus.epoch, newer)
    return marks
