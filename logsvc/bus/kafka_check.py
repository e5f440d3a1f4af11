"""What `logsvc check` says of Kafka: whether brokers, topics and their settings are as they must be."""

from collections.abc import Callable, Iterator
from typing import Final

from logsvc.bus.epochs import Epoch, Epochs, control_topic
from logsvc.bus.kafka_admin import MAX_BATCH, KafkaAdmin
from logsvc.bus.kafka_client import why_unreachable
from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError
from logsvc.findings import Finding

_MIGRATE: Final = "Run logsvc migrate."


async def check(settings: Kafka) -> list[Finding]:
    """Look at everything that a bus on Kafka needs. Whatever can't be looked at is a finding too."""
    problem = await _reachable(settings)
    server = ", ".join(settings.bootstrap)
    if problem:
        advice = "Start Kafka, or set kafka.bootstrap, kafka.security and what belongs to it."
        return [Finding("Kafka answers", False, problem, f"an answer of {server}", advice)]
    findings = [Finding("Kafka answers", True, server, server)]
    try:
        async with KafkaAdmin.open(settings) as admin, Epochs.open(settings) as epochs:
            findings += await _topic(settings, admin, control_topic(settings.prefix), None)
            for epoch in epochs.all.values():
                if epoch.sealed is None or epoch is epochs.current:
                    findings += await _topic(settings, admin, epoch.topic(settings.prefix), epoch)
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


async def _topic(settings: Kafka, admin: KafkaAdmin, name: str, epoch: Epoch | None) -> list[Finding]:
    partitions = await admin.describe(name)
    if not partitions:
        advice = "A topic that was deleted can't come back: set another kafka.prefix, and run logsvc migrate."
        return [Finding(f"{name} exists", False, "no such topic", "the topic", advice)]
    config = await admin.config(name)
    replicas = min(len(partition["replicas"]) for partition in partitions)
    in_sync = min(len(partition["isr"]) for partition in partitions)
    findings = []
    wanted = 1 if epoch is None else epoch.partitions
    findings.append(
        _is(f"{name} partitions", str(len(partitions)), str(wanted), "Never add partitions by hand: " + _MIGRATE)
    )
    least = 1 if settings.development else max(2, settings.replication)
    findings += [
        _at_least(f"{name} replicas", replicas, least, "Reassign its partitions, or set kafka.development."),
        _at_least(f"{name} replicas in sync", in_sync, min(replicas, settings.min_insync), "See why brokers lag."),
    ]
    rules = _rules(settings, replicas) if epoch is None else [*_rules(settings, replicas), *_epoch_rules(settings)]
    for setting, rule, meaning in rules:
        found = config.get(setting, "")
        advice = f"Set {setting} of {name} to {meaning}."
        findings.append(Finding(f"{name} {setting}", rule(found), found, meaning, "" if rule(found) else advice))
    if epoch is None:
        findings.append(_is(f"{name} cleanup.policy", config["cleanup.policy"], "compact", "Set it so."))
    return findings


_Rule = tuple[str, Callable[[str], bool], str]


def _rules(settings: Kafka, replicas: int) -> Iterator[_Rule]:
    least = 1 if settings.development else 2
    # As many as there are replicas: then one broker that is down stops everything.
    most = max(least, replicas - 1)
    yield "min.insync.replicas", lambda found: least <= int(found or 0) <= most, f"{least} to {most}"
    yield "unclean.leader.election.enable", lambda found: found == "false", "false"


def _epoch_rules(settings: Kafka) -> Iterator[_Rule]:
    hours = settings.retention_hours
    yield "message.timestamp.type", lambda found: found == "LogAppendTime", "LogAppendTime"
    yield "cleanup.policy", lambda found: found == "delete", "delete"
    yield "max.message.bytes", lambda found: int(found or 0) >= MAX_BATCH, f"{MAX_BATCH} or more"
    yield (
        "retention.ms",
        lambda found: int(found or 0) < 0 or int(found or 0) >= hours * 3_600_000,
        f"{hours * 3_600_000} or more, or -1",
    )
    yield "retention.bytes", lambda found: found == "-1", "-1"


def _is(name: str, found: str, wanted: str, advice: str) -> Finding:
    return Finding(name, found == wanted, found, wanted, "" if found == wanted else advice)


def _at_least(name: str, found: int, least: int, advice: str) -> Finding:
    return Finding(name, found >= least, str(found), f"{least} or more", "" if found >= least else advice)
