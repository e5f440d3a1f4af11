"""`logsvc serve`: the API. Processes share nothing: a client may come back to any of them with its cursor."""

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial

from logsvc import telemetry
from logsvc.api.context import Context
from logsvc.api.server import listening
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.protocol import Records
from logsvc.bus.sealed import Stored
from logsvc.config import Settings
from logsvc.drains.kafka_registry import KafkaRegistry
from logsvc.errors import StoreAway
from logsvc.model import AppId
from logsvc.purges import Purge
from logsvc.router import Router
from logsvc.service.access import access_of, require_tokens
from logsvc.service.drains import drains_of
from logsvc.service.epochs import is_stored, next_epoch, until_sealed
from logsvc.service.lifecycle import say
from logsvc.service.purging import remove_everywhere
from logsvc.service.role import Health, run_role
from logsvc.sources.push import PushSource
from logsvc.sources.redaction import redaction
from logsvc.store.protocol import Store
from logsvc.store.server import ServerStore
from logsvc.timeline import Epoch as Leg
from logsvc.timeline import Tiers
from logsvc.waiting import keep_up, opened

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> int:
    """Serve until a signal comes; then tails are asked to come back elsewhere, with their cursors.

    Raises ConfigError, BusError, StoreError where settings, topics or tables are wrong; waits for a Kafka that is away.
    """
    require_tokens(settings)
    return await run_role(settings.probe, partial(_serve, settings))


async def _serve(settings: Settings, health: Health) -> None:
    http = settings.http
    async with AsyncExitStack() as stack:
        store = await ServerStore.open(settings.clickhouse)
        stack.push_async_callback(store.close)
        epochs = await stack.enter_async_context(opened(partial(Epochs.open, settings.kafka), "the service"))
        serving = _Serving(settings, epochs, store, health, stack)
        context = await serving.open()
        async with listening(context, http.host, http.port, http.grace) as url:
            context.ready.set()
            health.start()
            say(f"logsvc serves at {url}")
            if not settings.sessions.keys:
                log.warning(
                    "sessions.keys is not set: addresses of log sessions are good at this process only, until it ends. "
                    "Set it to the same secret for all of logsvc serve"
                )
            try:
                await serving.run()
            finally:
                context.stopping.set()
                context.tiers.wake()


class _Serving:
    """The tiers of one process, and how they go over to a new epoch."""

    def __init__(self, settings: Settings, epochs: Epochs, store: Store, health: Health, stack: AsyncExitStack) -> None:
        self._settings, self._epochs, self._store, self._stack = settings, epochs, store, stack
        self._health = health
        self._current: KafkaBus
        self._tiers: Tiers
        self._push: PushSource
        self._routers: list[Router] = []

    async def open(self) -> Context:
        tail = self._settings.tail
        *older, current = [self._epochs.all[number] for number in sorted(self._epochs.all)] or [self._epochs.current]
        sealed = [Leg(await self._records(epoch), None) for epoch in older]
        bus = self._current = await self._bus(current)
        controls = self._epochs.controls
        self._tiers = Tiers(bus, self._store, self._router(bus), sealed, successors=True, purges=controls.purges)
        self._push = PushSource(bus, self._store, [leg.bus for leg in sealed], redaction(self._settings.redact))
        telemetry.follow_routers(self._routers)
        access = await self._stack.enter_async_context(access_of(self._settings))
        if access.gate is not None:
            controls.follow_revoked(access.gate.revoke)
        registry = partial(KafkaRegistry.open, self._settings.kafka, self._epochs)
        kept = await self._stack.enter_async_context(opened(registry, "the service", self._health.waited_out))
        drains = await self._stack.enter_async_context(drains_of(self._settings, kept))
        context = Context(
            self._tiers, self._push, self._remove, drains, access, heartbeat=tail.heartbeat, max_tails=tail.max_tails
        )
        controls.purges.follow(context.forget)
        return context

    async def _remove(self, app: AppId) -> Purge:
        return await remove_everywhere(self._epochs, self._current, app)

    async def run(self) -> None:
        """Read what is watched, of each epoch that begins."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_up(self._routers[-1].run, "live reading"), name="router")
            while True:
                epoch = await next_epoch(self._epochs, self._current.epoch)
                await until_sealed(self._epochs, self._current.epoch)
                bus = await self._bus(epoch)
                router = self._router(bus)
                group.create_task(keep_up(router.run, "live reading"), name=f"router of epoch {epoch.number}")
                self._push.cross(bus)
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
            KafkaBus.open, self._settings.kafka, epoch.number, epochs=self._epochs, recorded=self._store.watermarks
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
