"""Drains, as the settings say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from logsvc.api.context import Drains
from logsvc.config import Settings
from logsvc.drains.addresses import Addresses
from logsvc.drains.delivery import Backlog, Means
from logsvc.drains.notices import Announcer
from logsvc.drains.outbound import Outbound
from logsvc.drains.registry import Registry
from logsvc.drains.trial import send_test
from logsvc.timeline import Tiers


@asynccontextmanager
async def drains_of(settings: Settings, registry: Registry) -> AsyncIterator[Drains]:
    """What the API needs of drains. Raises ConfigError."""
    given = settings.drains
    async with Outbound.open(given) as outbound:
        try_out = partial(send_test, outbound=outbound)
        yield Drains(registry, try_out, Addresses(given.allow, given.refuse), unencrypted=given.http)


@asynccontextmanager
async def delivering(settings: Settings, tiers: Tiers) -> AsyncIterator[Means]:
    """What deliveries need. Raises ConfigError."""
    async with Outbound.open(settings.drains) as outbound:
        backlog = Backlog(settings.drains, settings.limits.default, partial(_kept, settings))
        yield Means(tiers, outbound, Announcer(lambda: tiers.bus, settings.limits.retention_of), backlog)


def _kept(settings: Settings, plan: str) -> float | None:
    """For how many seconds the lines of a plan are kept; None for ever."""
    days, number = settings.store.retention_days, settings.limits.retention_of(plan)
    return days[number] * 86400.0 if number < len(days) else None
