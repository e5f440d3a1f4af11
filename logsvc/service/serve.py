"""`logsvc serve`: the API. Processes share nothing: a client may come back to any of them with its cursor."""

import logging
from contextlib import AsyncExitStack
from functools import partial

from logsvc.api.context import Context
from logsvc.api.server import listening
from logsvc.bus.epochs import Epochs
from logsvc.config import Settings
from logsvc.drains.kafka_registry import KafkaRegistry
from logsvc.service.access import access_of, require_tokens
from logsvc.service.drains import drains_of
from logsvc.service.lifecycle import say
from logsvc.service.purging import remove_everywhere
from logsvc.service.role import Health, run_role
from logsvc.service.tiers import KafkaTiers
from logsvc.sources.push import PushSource
from logsvc.sources.redaction import redaction
from logsvc.store.server import ServerStore
from logsvc.waiting import opened

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> int:
    """Serve until a signal comes; then tails are asked to come back elsewhere, with their cursors.

    Raises ConfigError, BusError, StoreError where settings, topics or tables are wrong; waits for a Kafka that is away.
    """
    require_tokens(settings)
    return await run_role(settings.probe, "serve", partial(_serve, settings))


async def _serve(settings: Settings, health: Health) -> None:
    http, tail = settings.http, settings.tail
    async with AsyncExitStack() as stack:
        store = await ServerStore.open(settings.clickhouse)
        stack.push_async_callback(store.close)
        epochs = await stack.enter_async_context(opened(partial(Epochs.open, settings.kafka), "the service"))
        reading = KafkaTiers(settings, epochs, store, health, stack)
        tiers = await reading.open()
        push = PushSource(tiers.bus, store, [older.bus for older in tiers.older], redaction(settings.redact))
        access = await stack.enter_async_context(access_of(settings))
        if access.gate is not None:
            epochs.controls.follow_revoked(access.gate.revoke)
        opening = partial(KafkaRegistry.open, settings.kafka, epochs)
        registry = await stack.enter_async_context(opened(opening, "the service", health.waited_out))
        drains = await stack.enter_async_context(drains_of(settings, registry))
        context = Context(
            tiers,
            push,
            lambda app: remove_everywhere(epochs, tiers.bus, app),
            drains,
            access,
            heartbeat=tail.heartbeat,
            max_tails=tail.max_tails,
        )
        epochs.controls.purges.follow(context.forget)
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
                await reading.run(push.cross)
            finally:
                context.stopping.set()
                tiers.wake()
