"""What `logsvc check` says of Kafka: whether brokers, topics and their settings are as they must be."""

from typing import Final

from logsvc.bus.dead_letters import dead_settings, dead_topic
from logsvc.bus.epochs import Epoch, Epochs, control_topic
from logsvc.bus.kafka_admin import KafkaAdmin
from logsvc.bus.kafka_client import why_unreachable
from logsvc.bus.kafka_group import store_group
from logsvc.bus.kafka_queries import EARLIEST, LATEST, Hidden, KafkaQueries
from logsvc.bus.kafka_rules import (
    at_least,
    brokers_known,
    cluster_findings,
    common_rules,
    epoch_rules,
    of_rules,
    replication,
)
from logsvc.bus.kafka_tables import drains_settings, drains_topic
from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError
from logsvc.findings import Finding

_MIGRATE: Final = "Run logsvc migrate."
_AS_MADE: Final = ("cleanup.policy", "segment.bytes", "segment.ms", "max.compaction.lag.ms")
"""Settings of the topic of drains that keep it small."""


async def check(settings: Kafka) -> list[Finding]:
    """Look at everything that a bus on Kafka needs. Whatever can't be looked at is a finding too."""
    problem = await _reachable(settings)
    server = ", ".join(settings.bootstrap)
    if problem:
        advice = "Start Kafka, or set kafka.bootstrap, kafka.security and what belongs to it."
        return [Finding("Kafka answers", False, problem, f"an answer of {server}", advice)]
    findings = [Finding("Kafka answers", True, server, server)]
    try:
        async with (
            KafkaAdmin.open(settings) as admin,
            KafkaQueries.open(settings) as queries,
            Epochs.open(settings) as epochs,
        ):
            findings += await _cluster(settings, queries)
            findings += await _topic(settings, admin, control_topic(settings.prefix), None)
            findings += await _rights(settings, queries, control_topic(settings.prefix), {"READ", "WRITE"})
            findings += await _drains(settings, admin, queries)
            findings.append(await _names(settings, queries))
            findings.append(await _group(settings, queries, store_group(settings.prefix)))
            findings.append(await _group(settings, queries, drains_topic(settings.prefix)))
            findings += await _dead(settings, admin, queries)
            for epoch in epochs.all.values():
                if epoch.sealed is None or epoch is epochs.current:
                    findings += await _topic(settings, admin, epoch.topic(settings.prefix), epoch)
                    findings += await _rights(settings, queries, epoch.topic(settings.prefix), {"READ", "WRITE"})
            if not epochs.all:
                findings.append(Finding("epochs", False, "none", "one that takes lines", _MIGRATE))
    except ConfigError as error:
        findings.append(Finding("topics", False, str(error), f"{control_topic(settings.prefix)}", _MIGRATE))
    except BusError as error:
        findings.append(Finding("topics", False, str(error), "an answer", "See the rights of the user, and try again."))
    return findings


async def _reachable(settings: Kafka) -> str:
    try:
        why = await why_unreachable(settings)
    except ConfigError as error:
        return str(error)
    return "" if why is None else why.text


async def _cluster(settings: Kafka, queries: KafkaQueries) -> list[Finding]:
    """The brokers, and the topics that Kafka makes for itself."""
    known = await brokers_known(queries)
    try:
        return [known, *await cluster_findings(settings, queries)]
    except Hidden as error:
        return [known, Finding("topics of Kafka itself", True, f"not looked at: {error}")]


async def _names(settings: Kafka, queries: KafkaQueries) -> Finding:
    """Whether Kafka keeps the names under which writers fence one another."""
    wanted = f"the right to write to those that begin with {settings.prefix}"
    try:
        await queries.producer(f"{settings.prefix}/check")
    except BusError as error:
        advice = "Grant WRITE on them, and see that brokers can make the topic __transaction_state."
        return Finding("transactional ids", False, str(error), wanted, advice)
    return Finding("transactional ids", True, "granted", wanted)


async def _group(settings: Kafka, queries: KafkaQueries, name: str) -> Finding:
    """Whether stores may share the partitions and everybody ask how far they are, or processes share the drains."""
    granted = await queries.may_join(name)
    advice = "" if granted else f"Grant READ on group {name} to {settings.username or 'this client'}."
    return Finding(f"group {name} rights", granted, "READ" if granted else "none", "READ", advice)


async def _rights(settings: Kafka, queries: KafkaQueries, name: str, wanted: set[str]) -> list[Finding]:
    """Those that roles need; `logsvc migrate` makes topics and changes their settings besides."""
    granted = await queries.rights(name)
    missing = ", ".join(sorted(wanted - granted))
    advice = f"Grant {missing} on topic {name} to {settings.username or 'this client'}." if missing else ""
    found = ", ".join(sorted(wanted & granted)) or "none"
    return [Finding(f"{name} rights", not missing, found, ", ".join(sorted(wanted)), advice)]


async def _dead(settings: Kafka, admin: KafkaAdmin, queries: KafkaQueries) -> list[Finding]:
    """The topic of what the store refused for good, and whether there is any."""
    name = dead_topic(settings.prefix)
    if not await admin.describe(name):
        return [Finding(f"{name} exists", False, "no such topic", "the topic", _MIGRATE)]
    config, wanted = await admin.config(name), dead_settings(settings)
    findings = [
        at_least(f"{name} {setting}", int(config[setting]), int(wanted[setting]), f"Set {setting} of {name} so.")
        for setting in ("max.message.bytes", "min.insync.replicas")
    ]
    findings.append(_is(f"{name} cleanup.policy", config["cleanup.policy"], "delete", "Set it so."))
    todo = "Set it so: who looks may come late, and what was removed for good must not stay for ever."
    findings.append(_is(f"{name} retention.ms", config["retention.ms"], wanted["retention.ms"], todo))
    findings += await _rights(settings, queries, name, {"WRITE"})
    starts, ends = await queries.offsets(name, [0], EARLIEST), await queries.offsets(name, [0], LATEST)
    advice = f"ClickHouse refused them: see the header `reason` of each (kcat -C -t {name} -e -f '%h\\n')."
    return [*findings, _is(f"{name} chunks set aside", str(ends[0] - starts[0]), "0", advice)]


async def _drains(settings: Kafka, admin: KafkaAdmin, queries: KafkaQueries) -> list[Finding]:
    """The topic of drains' positions. It may have any number of partitions, but always the same."""
    name = drains_topic(settings.prefix)
    partitions = await admin.describe(name)
    if not partitions:
        return [Finding(f"{name} exists", False, "no such topic", "the topic", _MIGRATE)]
    config, wanted = await admin.config(name), drains_settings(settings)
    findings = [_is(f"{name} {setting}", config[setting], wanted[setting], "Set it so.") for setting in _AS_MADE]
    replicas = min(len(partition["replicas"]) for partition in partitions)
    findings += of_rules(name, config, common_rules(settings, replicas))
    return [*findings, *await _rights(settings, queries, name, {"READ", "WRITE"})]


async def _topic(settings: Kafka, admin: KafkaAdmin, name: str, epoch: Epoch | None) -> list[Finding]:
    partitions = await admin.describe(name)
    if not partitions:
        advice = (
            "One that was deleted can't come back: go on under another kafka.prefix, as after a Kafka that was lost."
        )
        return [Finding(f"{name} exists", False, "no such topic", "the topic", advice)]
    config = await admin.config(name)
    replicas = min(len(partition["replicas"]) for partition in partitions)
    in_sync = min(len(partition["isr"]) for partition in partitions)
    findings = []
    wanted = 1 if epoch is None else epoch.partitions
    findings.append(
        _is(f"{name} partitions", str(len(partitions)), str(wanted), "Never add partitions by hand: " + _MIGRATE)
    )
    findings += [
        replication(settings, name, replicas),
        at_least(f"{name} replicas in sync", in_sync, min(replicas, settings.min_insync), "See why brokers lag."),
    ]
    rules = [*common_rules(settings, replicas), *(epoch_rules(settings) if epoch is not None else ())]
    findings += of_rules(name, config, rules)
    if epoch is None:
        findings.append(_is(f"{name} cleanup.policy", config["cleanup.policy"], "compact", "Set it so."))
    return findings


def _is(name: str, found: str, wanted: str, advice: str) -> Finding:
    return Finding(name, found == wanted, found, wanted, "" if found == wanted else advice)
