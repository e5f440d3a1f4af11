"""How brokers and topics have to be set, so that what was acknowledged stays, and in its order.

Roles hold it when they start; `logsvc check` shows it. Raised only where somebody set something otherwise: what
`logsvc migrate` makes is right.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from logsvc.bus.epochs import Epoch
from logsvc.bus.kafka_admin import MAX_BATCH, SEALED_BYTES
from logsvc.bus.kafka_by_id import BY_ID, FETCH
from logsvc.bus.kafka_queries import Hidden, KafkaQueries
from logsvc.config import Kafka
from logsvc.errors import ConfigError
from logsvc.findings import Finding

TRANSACTIONS: Final = "__transaction_state"
OFFSETS: Final = "__consumer_offsets"
_INTERNAL: Final = {TRANSACTIONS: "transaction.state.log", OFFSETS: "offsets.topic"}
"""What the brokers' settings for them begin with; these count when a broker makes the topic, and not any more then."""

logger = logging.getLogger(__name__)

Rule = tuple[str, Callable[[str], bool], str]
"""A setting, whether a value will do, and which one would."""


async def require(settings: Kafka, queries: KafkaQueries, epoch: Epoch) -> None:
    """Raises ConfigError where brokers, or the topic of an epoch that takes lines, are set as they must not be."""
    findings = [await brokers_known(queries)]
    if epoch.sealed is None:
        try:
            findings += await topic_findings(settings, queries, epoch)
            findings += await cluster_findings(settings, queries)
        except Hidden as error:
            logger.warning("%s, so whether Kafka is set as it must be is not known here: see logsvc check", error)
    wrong = [
        f"{finding.name} is {finding.found} and must be {finding.wanted}" for finding in findings if not finding.ok
    ]
    if wrong:
        raise ConfigError(f"Kafka is not set as it must be: {'; '.join(wrong)}")


async def topic_findings(settings: Kafka, queries: KafkaQueries, epoch: Epoch) -> list[Finding]:
    """How the topic of an epoch is set. Raises Hidden, BusError."""
    name = epoch.topic(settings.prefix)
    replicas = await queries.replicas(name)
    if not replicas:  # that it is gone, others say
        return []
    config = await queries.topic_config(name)
    if config["max.message.bytes"] == str(SEALED_BYTES):  # somebody seals it now
        return []
    rules = [*common_rules(settings, min(replicas)), *epoch_rules(settings)]
    return [replication(settings, name, min(replicas)), *of_rules(name, config, rules)]


async def brokers_known(queries: KafkaQueries) -> Finding:
    """Whether the broker that is asked is new enough. Raises BusError."""
    newest = (await queries.versions()).get(FETCH, 0)
    todo = "" if newest >= BY_ID else "Update the brokers."
    return Finding(
        "brokers' version of Fetch", newest >= BY_ID, str(newest), f"{BY_ID} or newer, as of Kafka 3.1", todo
    )


async def cluster_findings(settings: Kafka, queries: KafkaQueries) -> list[Finding]:
    """Whether names of writers and places of groups outlive a broker. Raises Hidden, BusError."""
    if settings.development:
        return []
    findings = []
    for topic, begins in _INTERNAL.items():
        replicas = await queries.replicas(topic)
        if replicas:
            config = await queries.topic_config(topic) | {"replicas": str(min(replicas))}
            named, keys, todo = topic, ("replicas", "min.insync.replicas"), f"Reassign {topic}, or set it of that."
        else:
            config = await queries.broker_config()
            named, keys = "brokers", (f"{begins}.replication.factor", f"{begins}.min.isr")
            todo = f"Set it so before {topic} is made."
        # A place of a group that is lost has records stored again, which are there once; a name that is lost lets what
        # a dead writer has sent come behind the fence. So the latter has to be on two brokers before it counts.
        counting = keys if topic == TRANSACTIONS else keys[:1]
        findings += [at_least(f"{named} {key}", int(config[key]), 2, todo) for key in counting]
    return findings


def replication(settings: Kafka, name: str, replicas: int) -> Finding:
    least = 1 if settings.development else max(2, settings.replication)
    return at_least(f"{name} replicas", replicas, least, "Reassign its partitions, or set kafka.development.")


def common_rules(settings: Kafka, replicas: int) -> Iterator[Rule]:
    """For every topic of logsvc."""
    least = 1 if settings.development else 2
    # As many as there are replicas: then one broker that is down stops everything.
    most = max(least, replicas - 1)
    yield "min.insync.replicas", lambda found: least <= int(found or 0) <= most, f"{least} to {most}"
    yield "unclean.leader.election.enable", lambda found: found == "false", "false"


def epoch_rules(settings: Kafka) -> Iterator[Rule]:
    """For the topic of an epoch that takes lines."""
    wanted = settings.retention_hours * 3_600_000
    yield "message.timestamp.type", lambda found: found == "LogAppendTime", "LogAppendTime"
    yield "cleanup.policy", lambda found: found == "delete", "delete"
    yield "max.message.bytes", lambda found: int(found or 0) >= MAX_BATCH, f"{MAX_BATCH} or more"
    yield "retention.ms", lambda found: int(found or 0) < 0 or int(found or 0) >= wanted, f"{wanted} or more, or -1"
    yield "retention.bytes", lambda found: found == "-1", "-1"


def of_rules(name: str, config: Mapping[str, str], rules: Iterable[Rule]) -> Iterator[Finding]:
    for setting, will_do, wanted in rules:
        found = config.get(setting, "")
        ok = will_do(found)
        yield Finding(f"{name} {setting}", ok, found, wanted, "" if ok else f"Set {setting} of {name} to {wanted}.")


def at_least(name: str, found: int, least: int, advice: str) -> Finding:
    return Finding(name, found >= least, str(found), f"{least} or more", "" if found >= least else advice)
