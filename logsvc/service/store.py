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
from logsvc.service.lifecycle import first_of, say
from logsvc.service.purging import erase, passed_on_servers
from logsvc.service.retention import retain
from logsvc.service.role import Health, run_role
from logsvc.store.protocol import Store
from logsvc.store.server import ServerStore
from logsvc.store.writer import StoreLoop
from logsvc.waiting import keep_up, opened, persist

_LOOK: Final = 0.25
"""Seconds between two looks at what the other writers of a sealed epoch have left to do."""


async def store(settings: Settings) -> int:
    """Store until a signal comes; what was fetched is then inserted and committed, within `store.grace`.

    What isn't committed then is inserted again by others, and is one row. Raises ConfigError, BusError, StoreError
    where settings, topics or tables are wrong; waits for a Kafka or a ClickHouse that is away.
    """
    return await run_role(settings.probe, "store", partial(_store, settings))


async def _store(settings: Settings, health: Health) -> None:
    server = await ServerStore.open(settings.clickhouse, dict(enumerate(settings.store.retention_days)))
    try:
        async with opened(partial(Epochs.open, settings.kafka), "the store") as epochs:
            purges = epochs.controls.purges
            await first_of(
                retain(server),
                erase(purges, server, partial(passed_on_servers, epochs, server)),
                _Storing(settings, epochs, server, health).run(),
            )
    finally:
        await server.close()


class _Storing:
    """Epoch by epoch, each to its end before the next is begun: what is stored of one comes after all before it."""

    def __init__(self, settings: Settings, epochs: Epochs, server: Store, health: Health) -> None:
        self._settings, self._epochs, self._server, self._health = settings, epochs, server, health

    async def run(self) -> None:
        epoch = await self._first_lacking()
        while True:
            opening = partial(
                KafkaBus.open,
                self._settings.kafka,
                epoch.number,
                epochs=self._epochs,
                recorded=self._server.watermarks,
            )
            async with opened(opening, f"epoch {epoch.number}", self._health.waited_out) as bus:
                if not self._health.started:
                    self._health.start()
                    say("logsvc stores what is on Kafka")
                await keep_up(partial(self._store, bus), f"the store, in epoch {epoch.number},")
            epoch = await next_epoch(self._epochs, epoch.number)

    async def _first_lacking(self) -> Epoch:
        for number in sorted(self._epochs.all):
            epoch = self._epochs.all[number]
            if not await persist(partial(is_stored, epoch, self._server), "the store"):
                return epoch
        return self._epochs.current

    async def _store(self, bus: KafkaBus) -> None:
        """Until the epoch is over and stored. However it ends, what was fetched is inserted and committed first."""
        group = bus.group()
        loop = StoreLoop(
            group,
            self._server,
            bus.epoch,
            inserts=self._settings.clickhouse.inserts,
            set_aside=partial(set_aside, self._settings.kafka),
            purges=self._epochs.controls.purges,
        )
        telemetry.follow_store(loop)
        self._health.trouble = lambda: loop.state.error
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(loop.run(), name="store")
                try:
                    await self._until_stored(bus)
                finally:
                    loop.stop()
                    await asyncio.wait([running], timeout=self._settings.store.grace)
                    running.cancel()
        finally:
            await group.close()

    async def _until_stored(self, bus: KafkaBus) -> None:
        """Wait until an epoch is over and stored.

        A writer that was killed may have committed what it has not recorded, and nothing may follow in that partition.
        So what the group has committed is recorded, at first and in the end.
        """
        record = partial(_record_committed, bus, self._server)
        await persist(record, "the store")
        await until_sealed(self._epochs, bus.epoch)
        ends = self._epochs.all[bus.epoch].sealed or {}
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
