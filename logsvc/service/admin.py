"""What an operator does, once or at any time: `logsvc migrate`, `check`, `purge`, `revoke`, `backup` and `restore`."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Final

import orjson

from logsvc.access.audit import audit
from logsvc.bus import kafka_admin, kafka_copy
from logsvc.bus.controls import revoked_key
from logsvc.bus.dead_letters import KEPT_DAYS, count_aside, dead_topic
from logsvc.bus.epochs import Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_check import check as check_kafka
from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.config import Settings
from logsvc.drains.kafka_registry import KafkaRegistry
from logsvc.drains.local import LocalDrains
from logsvc.drains.registry import Registry
from logsvc.errors import ConfigError
from logsvc.findings import Finding
from logsvc.model import AppId
from logsvc.purges import Purge
from logsvc.service.pods import check_rights
from logsvc.service.purging import LocalPurges, erased, passed_on_servers, remove_everywhere
from logsvc.store.checks import check as check_store
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.server import ServerStore

_OPERATOR: Final = "logsvc purge"
"""In the audit log. Who has called it is for the log of the machine to say."""


async def migrate(settings: Settings) -> list[str]:
    """Bring topics and tables up to date; what there is then, in sentences. Safe to run twice and at once.

    Raises ConfigError, BusError, StoreError.
    """
    store = ServerStore(settings.clickhouse)
    try:
        await store.migrate()
        epoch = await kafka_admin.migrate(settings.kafka, settings.bus.partitions, store.watermarks)
    finally:
        await store.close()
    return [
        f"ClickHouse: the schema of database {settings.clickhouse.database} is up to date",
        f"Kafka: {epoch.topic(settings.kafka.prefix)} takes lines, in {epoch.partitions} partitions",
    ]


async def check(settings: Settings) -> list[Finding]:
    """Everything that must be so for the service to run, and what to do where it is not."""
    return [
        _sessions(settings),
        *await check_kafka(settings.kafka),
        *await check_store(settings.clickhouse),
        *await check_rights(settings),
    ]


def _sessions(settings: Settings) -> Finding:
    """Whether an address of a log session is good at every server. The keys themselves are not shown."""
    count = len(settings.sessions.keys)
    todo = "" if count else "Set sessions.keys, the same for all of logsvc serve: 32 random characters or more."
    return Finding("sessions.keys", count > 0, str(count) if count else "none", "one or more", todo)


async def purge(settings: Settings, app: AppId, seconds: float, *, drains: bool = False) -> list[str]:
    """Remove for good what an app has written until now, on Kafka and ClickHouse; what was done, in sentences.

    `drains`: remove its drains as well. Waits at most so many seconds for what is being stored. Safe to run again.
    Raises ConfigError, BusError, StoreError.
    """
    store = await ServerStore.open(settings.clickhouse)
    try:
        async with Epochs.open(settings.kafka) as epochs:
            opened = KafkaBus.open(settings.kafka, epochs.current.number, epochs=epochs, recorded=store.watermarks)
            async with opened as bus:
                made = await remove_everywhere(epochs, bus, app)
            _written_down(made)
            gone = []
            if drains:
                async with KafkaRegistry.open(settings.kafka, epochs) as registry:
                    gone = await _without_drains(registry, app)
            done = await erased(made, store, partial(passed_on_servers, epochs, store), seconds)
    finally:
        await store.close()
    aside, topic = await count_aside(settings.kafka, app), dead_topic(settings.kafka.prefix)
    hours = settings.kafka.retention_hours
    return [
        *_purged(made, "ClickHouse", done=done),
        f"Kafka: its records stay until they are {hours} hours old (kafka.retention_hours); nobody reads them any more",
        *([f"Kafka: {aside} chunks of it are on {topic} until they are {KEPT_DAYS} days old"] * (aside > 0)),
        *gone,
    ]


async def purge_folder(settings: Settings, app: AppId, *, drains: bool = False) -> list[str]:
    """The same in the data folder of a `logsvc dev` that doesn't run. Raises ConfigError where it does."""
    data = settings.data.dir
    bus_settings = LocalSettings(**settings.bus.model_dump(exclude={"partitions"}))
    async with LocalBus.open(data / "bus", partitions=settings.bus.partitions, settings=bus_settings) as bus:
        store = await EmbeddedStore.open(data / "store", dict(enumerate(settings.store.retention_days)))
        try:
            removing = LocalPurges(bus, data / "purges")
            made = await removing.remove(app)
            _written_down(made)
            gone = []
            if drains:
                async with LocalDrains.open(data) as registry:
                    gone = await _without_drains(registry, app)
            done = await erased(made, store, removing.passed, 0)
        finally:
            await store.close()
    kept = (
        "the journal: what isn't stored yet stays in its files until logsvc dev has run again; nobody reads it any more"
    )
    return [*_purged(made, "the store", done=True), *([] if done else [kept]), *gone]


async def _without_drains(registry: Registry, app: AppId) -> list[str]:
    """Remove an app's drains; the number, in a sentence. How far they were is forgotten by who delivers them."""
    names = [drain.id for drain in registry.drains.values() if drain.app_id == app]
    for name in names:
        await registry.remove(name)
        audit("drain removed", subject=_OPERATOR, tenant=app.tenant, app=app.app, drain=name)
    return [f"drains: {len(names)} are removed"]


def _written_down(made: Purge) -> None:
    audit("purge", subject=_OPERATOR, tenant=made.app.tenant, app=made.app.app, before=str(made.before))


def _purged(made: Purge, where: str, *, done: bool) -> list[str]:
    later = "; what is being stored now is deleted by logsvc store later"
    return [
        f"app {made.app.app} of tenant {made.app.tenant}: its log begins at {made.before} from now on",
        f"{where}: its rows are deleted{'' if done else later}",
        "log files: what was not collected yet comes in as new lines, so stop the app first",
    ]


async def revoke(settings: Settings, name: str, *, undo: bool) -> str:
    """Revoke a token at every server, or take that back; what was done. Raises ConfigError, BusError."""
    value = None if undo else orjson.dumps({"at": time.time_ns() // 1_000_000})
    async with Epochs.open(settings.kafka) as epochs:
        await epochs.write(revoked_key(name), value)
        count = len(epochs.controls.revoked)
    done = "is good again" if undo else "is revoked, and what stands on it ends within seconds"
    return f"{name} {done}; {count} are revoked in all"


async def backup(settings: Settings) -> bytes:
    """What Kafka alone knows, as a file. Raises ConfigError, BusError."""
    return (await kafka_copy.take(settings.kafka)).encode()


async def restore(settings: Settings, data: bytes) -> list[str]:
    """Give it to an empty Kafka; what there is then, in sentences. ClickHouse is as it is meant to be already.

    Each epoch ends where ClickHouse has everything up to, and a new one begins. Raises ConfigError, FormatError,
    BusError, StoreError.
    """
    copy = kafka_copy.Copy.parse(data)
    newest = max(copy.epochs, default=0)
    store = await ServerStore.open(settings.clickhouse)
    try:
        marks = {number: await store.watermarks(number) for number in range(1, newest + 2)}
    finally:
        await store.close()
    if marks.pop(newest + 1):
        raise ConfigError(f"ClickHouse has lines of an epoch after {newest}, the last in the copy: take a newer copy")
    if not any(marks.values()):
        raise ConfigError("ClickHouse has nothing of what the copy tells of: restore its database first")
    ends = {
        number: {partition: marks[number].get(partition, 0) for partition in range(epoch.partitions)}
        for number, epoch in copy.epochs.items()
    }
    await kafka_copy.put(settings.kafka, copy, ends)
    epoch = await kafka_admin.migrate(settings.kafka, settings.bus.partitions)
    return [
        f"Kafka: epochs up to {newest} end where ClickHouse has everything up to",
        f"Kafka: {epoch.topic(settings.kafka.prefix)} takes lines, in {epoch.partitions} partitions",
    ]


def table(findings: Sequence[Finding]) -> str:
    """Findings as a table for a terminal; what to do stands below each that is not as it must be."""
    width = max((len(finding.name) for finding in findings), default=0)
    return "\n".join(chain.from_iterable(_rows(finding, width) for finding in findings))


def _rows(finding: Finding, width: int) -> list[str]:
    wanted = "" if finding.ok or not finding.wanted else f", must be {finding.wanted}"
    rows = [f"{'ok ' if finding.ok else 'BAD'}  {finding.name:<{width}}  {finding.found}{wanted}"]
    if not finding.ok and finding.todo:
        rows.append(f"     {'':<{width}}  {finding.todo}")
    return rows
