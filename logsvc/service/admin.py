"""`logsvc migrate` and `logsvc check`: what an operator does once, and may do at any time."""

from collections.abc import Sequence
from itertools import chain

from logsvc.bus import kafka_admin
from logsvc.bus.kafka_check import check as check_kafka
from logsvc.config import Settings
from logsvc.findings import Finding
from logsvc.store.checks import check as check_store
from logsvc.store.server import ServerStore


async def migrate(settings: Settings) -> list[str]:
    """Bring topics and tables up to date; what there is then, in sentences. Safe to run twice and at once.

    Raises ConfigError, BusError, StoreError.
    """
    store = ServerStore(settings.clickhouse)
    try:
        await store.migrate()
    finally:
        await store.close()
    epoch = await kafka_admin.migrate(settings.kafka, settings.bus.partitions)
    return [
        f"ClickHouse: the schema of database {settings.clickhouse.database} is up to date",
        f"Kafka: {epoch.topic(settings.kafka.prefix)} takes lines, in {epoch.partitions} partitions",
    ]


async def check(settings: Settings) -> list[Finding]:
    """Everything that must be so for the service to run, and what to do where it is not."""
    return [_sessions(settings), *await check_kafka(settings.kafka), *await check_store(settings.clickhouse)]


def _sessions(settings: Settings) -> Finding:
    """Whether an address of a log session is good at every server. The keys themselves are not shown."""
    count = len(settings.sessions.keys)
    todo = "" if count else "Set sessions.keys, the same for all of logsvc serve: 32 random characters or more."
    return Finding("sessions.keys", count > 0, str(count) if count else "none", "one or more", todo)


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
