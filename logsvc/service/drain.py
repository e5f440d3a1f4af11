"""`logsvc drain`: lines to where apps want them. Start as many as there is work for; they share the drains."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from logsvc.bus.epochs import Epochs
from logsvc.config import Settings
from logsvc.drains.engine import Engine
from logsvc.drains.kafka_positions import KafkaPositions
from logsvc.drains.kafka_registry import KafkaRegistry
from logsvc.service.drains import delivering
from logsvc.service.lifecycle import first_of, say
from logsvc.service.role import Health, run_role
from logsvc.service.tiers import KafkaTiers
from logsvc.store.server import ServerStore
from logsvc.waiting import opened

GATHER: Final = 0.1
"""Seconds for which lines come together before they are fetched: frames wait for longer, and each fetch costs."""


async def drain(settings: Settings) -> int:
    """Deliver until a signal comes; others go on at once with what was not settled then.

    Raises ConfigError, BusError, StoreError where settings, topics or tables are wrong; waits for a Kafka that is away.
    """
    return await run_role(settings.probe, "drain", partial(_drain, settings))


async def _drain(settings: Settings, health: Health) -> None:
    kafka = settings.kafka
    async with AsyncExitStack() as stack:
        store = await ServerStore.open(settings.clickhouse)
        stack.push_async_callback(store.close)
        epochs = await stack.enter_async_context(opened(partial(Epochs.open, kafka), "the delivery"))
        reading = KafkaTiers(settings, epochs, store, health, stack, gather=GATHER)
        tiers = await reading.open()
        epochs.controls.purges.follow(lambda purge: tiers.forget(purge.before))
        means = await stack.enter_async_context(delivering(settings, tiers))
        opening = partial(KafkaRegistry.open, kafka, epochs)
        registry = await stack.enter_async_context(opened(opening, "the delivery", health.waited_out))
        joining = opened(partial(KafkaPositions.open, kafka), "the delivery", health.waited_out)
        positions = await stack.enter_async_context(joining)
        health.start()
        say("logsvc delivers drains")
        await first_of(reading.run(), Engine(registry, positions, means).run())
