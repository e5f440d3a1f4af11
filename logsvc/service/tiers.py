"""The tiers of a process that reads from Kafka and ClickHouse, and how they go over to a new epoch."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from logsvc import telemetry
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.protocol import Records
from logsvc.bus.sealed import Stored
from logsvc.config import Settings
from logsvc.errors import StoreAway
from logsvc.router import Router
from logsvc.service.epochs import is_stored, next_epoch, until_sealed
from logsvc.service.role import Health
from logsvc.store.protocol import Store
from logsvc.timeline import Epoch as Leg
from logsvc.timeline import Tiers
from logsvc.waiting import keep_up, opened


class KafkaTiers:
    """What `open` opens is closed with the stack."""

    def __init__(
        self,
        settings: Settings,
        epochs: Epochs,
        store: Store,
        health: Health,
        stack: AsyncExitStack,
        *,
        gather: float = 0.0,
    ) -> None:
        """`gather`: see `KafkaBus.open`."""
        self._settings, self._epochs, self._store, self._stack = settings, epochs, store, stack
        self._gather = gather
        self._health = health
        self._current: KafkaBus
        self._tiers: Tiers
        self._routers: list[Router] = []

    async def open(self) -> Tiers:
        """Raises ConfigError, BusError where topics are wrong; waits for a Kafka that is away."""
        *older, current = [self._epochs.all[number] for number in sorted(self._epochs.all)] or [self._epochs.current]
        sealed = [Leg(await self._records(epoch), None) for epoch in older]
        bus = self._current = await self._bus(current)
        purges = self._epochs.controls.purges
        self._tiers = Tiers(bus, self._store, self._router(bus), sealed, successors=True, purges=purges)
        telemetry.follow_routers(self._routers)
        return self._tiers

    async def run(self, crossed: Callable[[KafkaBus], None] = lambda _: None) -> None:
        """Read what is watched, of each epoch that begins; `crossed` hears of each, before it is read."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_up(self._routers[-1].run, "live reading"), name="router")
            while True:
                epoch = await next_epoch(self._epochs, self._current.epoch)
                await until_sealed(self._epochs, self._current.epoch)
                bus = await self._bus(epoch)
                router = self._router(bus)
                group.create_task(keep_up(router.run, "live reading"), name=f"router of epoch {epoch.number}")
                crossed(bus)
                self._tiers.cross(bus, router)
                self._current = bus

    async def _records(self, epoch: Epoch) -> Records:
        try:
            if epoch.sealed is not None and await is_stored(epoch, self._store):
                return Stored(epoch.number, epoch.sealed)
        except StoreAway:
            pass  # then it can't be told, and Kafka has what isn't stored
        return await self._bus(epoch)

    async def _bus(self, epoch: Epoch) -> KafkaBus:
        opening = partial(
            KafkaBus.open,
            self._settings.kafka,
            epoch.number,
            epochs=self._epochs,
            recorded=self._store.watermarks,
            gather=self._gather,
        )
        waiting = opened(opening, f"epoch {epoch.number}", self._health.waited_out)
        return await self._stack.enter_async_context(waiting)

    def _router(self, bus: KafkaBus) -> Router:
        tail = self._settings.tail
        router = Router(
            bus,
            window_bytes=tail.window_bytes,
            linger=tail.linger,
            heartbeat=tail.heartbeat,
            cold_lag=tail.cold_lag,
        )
        self._stack.push_async_callback(router.close)
        self._routers.append(router)
        return router
