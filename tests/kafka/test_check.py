"""`check` names what is not as it must be, and says what to do; what works on it then does not begin."""

import pytest

from logsvc.bus.dead_letters import set_aside
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin, migrate
from logsvc.bus.kafka_check import check
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.bus.kafka_rules import cluster_findings
from logsvc.errors import ConfigError
from logsvc.findings import Finding
from logsvc.model import AppId
from tests.support.bus import PARTITIONS, stream
from tests.support.kafka import Cluster
from tests.support.ports import free_port
from tests.support.store import chunk_of, stream_of
from tests.support.wait import DEADLINE, until


async def test_what_migrate_made_passes(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    findings = await check(settings)
    assert [finding for finding in findings if not finding.ok] == []
    assert [finding for finding in findings if finding.todo] == []
    assert len(findings) > 10


async def test_before_migrate(kafka: Cluster):
    findings = await check(kafka.settings())
    assert [(finding.name, finding.ok) for finding in findings] == [("Kafka answers", True), ("topics", False)]
    assert findings[-1].todo == "Run logsvc migrate."


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("message.timestamp.type", "CreateTime"),
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "100000"),
        ("retention.ms", "60000"),
        ("retention.bytes", "1000000"),
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "3"),
    ],
)
async def test_a_topic_that_was_set_otherwise(kafka: Cluster, setting: str, wrong: str):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    name = f"{settings.prefix}.1"
    async with KafkaAdmin.open(settings) as admin:
        await admin.set_config(name, {setting: wrong})

    async def found() -> list[Finding]:
        return [finding for finding in await check(settings) if not finding.ok]

    (bad,) = await until(found, what="the broker to have heard of it")
    assert (bad.name, bad.found) == (f"{name} {setting}", wrong)
    assert bad.todo.startswith(f"Set {setting} of {name} to ")
    with pytest.raises(ConfigError) as refusal:
        async with KafkaBus.open(settings):
            pass
    assert str(refusal.value) == f"Kafka is not set as it must be: {name} {setting} is {wrong} and must be {bad.wanted}"


async def test_chunks_that_were_set_aside_are_counted(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    for offset in range(3):
        await set_aside(settings, chunk_of(stream_of(AppId("tenant", "app")), offset, b"x"), "refused")
    (bad,) = [finding for finding in await check(settings) if not finding.ok]
    assert (bad.name, bad.found, bad.wanted) == (f"{settings.prefix}.dead chunks set aside", "3", "0")
    assert "see the header `reason`" in bad.todo


async def test_a_dead_letter_topic_that_would_forget(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaAdmin.open(settings) as admin:
        await admin.set_config(f"{settings.prefix}.dead", {"retention.ms": "1000000", "max.message.bytes": "1000"})
    bad = {finding.name.partition(" ")[2] for finding in await check(settings) if not finding.ok}
    assert bad == {"retention.ms", "max.message.bytes"}


async def test_rights_are_looked_at(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    found = {finding.name.replace(settings.prefix, ""): finding.found for finding in await check(settings)}
    assert found[".1 rights"] == "READ, WRITE"
    assert found[".control rights"] == found[".drains rights"] == "READ, WRITE"
    assert found[".dead rights"] == "WRITE"
    assert found["group -store rights"] == found["group .drains rights"] == "READ"


async def test_one_broker_will_do_for_development_only(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:  # has the topics of Kafka itself made
        await bus.append(stream(), b"1\n")
        group = bus.group()
        (fetched,) = await group.fetch(1 << 20, DEADLINE)
        await group.commit({fetched.partition: fetched.next})
    strict = settings.model_copy(update={"development": False, "replication": 3})
    bad = {finding.name.replace(settings.prefix, "") for finding in await check(strict) if not finding.ok}
    assert {".1 replicas", ".control replicas", ".1 min.insync.replicas", ".drains min.insync.replicas"} < bad
    assert {name for name in bad if name.startswith("__")} == {
        "__transaction_state replicas", "__transaction_state min.insync.replicas", "__consumer_offsets replicas"
    }  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"\.1 replicas is 1 and must be 3 or more; .*; __consumer_offsets replicas is 1"
    ):
        async with KafkaBus.open(strict):
            pass


async def test_what_brokers_would_make_counts_until_it_is_made(kafka: Cluster, monkeypatch: pytest.MonkeyPatch):
    async with KafkaQueries.open(kafka.settings()) as queries:

        async def none_yet(topic: str) -> list[int]:
            assert topic.startswith("__")
            return []

        monkeypatch.setattr(queries, "replicas", none_yet)
        strict = kafka.settings(development=False)
        assert [(finding.name, finding.found, finding.ok) for finding in await cluster_findings(strict, queries)] == [
            ("brokers transaction.state.log.replication.factor", "1", False),
            ("brokers transaction.state.log.min.isr", "1", False),
            ("brokers offsets.topic.replication.factor", "1", False),
        ]


async def test_brokers_that_know_no_ids_of_topics(kafka: Cluster, monkeypatch: pytest.MonkeyPatch):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    monkeypatch.setattr("logsvc.bus.kafka_rules.BY_ID", 99)
    with pytest.raises(ConfigError, match=r"brokers' version of Fetch is \d+ and must be 99 or newer"):
        async with KafkaBus.open(settings):
            pass


async def test_nobody_there(kafka: Cluster):
    settings = kafka.settings(bootstrap=[f"127.0.0.1:{free_port()}"], delivery_timeout=2)
    (finding,) = await check(settings)
    assert not finding.ok
    assert "the connection is refused: is it running there?" in finding.found
