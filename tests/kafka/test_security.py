"""TLS and SASL against a broker that asks for them, and plain words where it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_check import check
from logsvc.bus.kafka_queries import Hidden, KafkaQueries
from logsvc.config import Kafka
from logsvc.errors import BusAway, BusError, ConfigError
from logsvc.findings import Finding
from tests.support.bus import PARTITIONS, partition_of, read_all, stream, values
from tests.support.certificates import authority, signed
from tests.support.kafka import PASSWORD, USER, Cluster, cluster
from tests.support.wait import DEADLINE, until

NAMES = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")


class Certificates(NamedTuple):
    """PEM files."""

    authority: Path
    broker: Path
    client: Path
    other_authority: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, ca = authority(folder, "authority")
    _, other = authority(folder, "other")
    return Certificates(ca, signed(folder, "broker", ca_key, ca), signed(folder, "client", ca_key, ca), other)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Cluster]:
    users = f'user_{USER}="{PASSWORD}"'
    plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    extra = f"""
ssl.keystore.type=PEM
ssl.keystore.location={certificates.broker}
ssl.truststore.type=PEM
ssl.truststore.location={certificates.authority}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram}
listener.name.sasl_ssl.plain.sasl.jaas.config={plain}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
"""
    with cluster(tmp_path_factory.mktemp("kafka"), extra=extra, names=NAMES) as started:
        yield started


def settings(secured: Cluster, certificates: Certificates, security: str, **others: object) -> Kafka:
    given: dict[str, object] = {"security": security, "delivery_timeout": 10}
    if "sasl" in security:
        given |= {"username": USER, "password": PASSWORD}
    if "ssl" in security:
        given |= {"ca_file": str(certificates.authority)}
    return secured.settings(security.upper(), **{**given, **others})


@pytest.mark.parametrize(
    ("security", "mechanism"),
    [(security, mechanism) for security in ("sasl_plaintext", "sasl_ssl") for mechanism in ("PLAIN", "SCRAM-SHA-512")],
)
async def test_name_and_password(secured: Cluster, certificates: Certificates, security: str, mechanism: str):
    await works(settings(secured, certificates, security, sasl_mechanism=mechanism))


async def test_a_certificate_of_ones_own(secured: Cluster, certificates: Certificates):
    await works(settings(secured, certificates, "ssl", cert_file=str(certificates.client)))


async def works(kafka: Kafka) -> None:
    """Every kind of connection."""
    await migrate(kafka, PARTITIONS)
    async with KafkaBus.open(kafka) as bus:
        await bus.append(stream(), b"1\n")
        live, group = bus.live(), bus.group()
        live.watch(partition_of("app"), 0)
        assert values((await live.fetch())[0].chunks) == [b"1\n"]
        (fetched,) = await group.fetch(1 << 20, DEADLINE)
        await group.commit({fetched.partition: fetched.next})
        assert values(await read_all(bus, partition_of("app"))) == [b"1\n"]
    assert all(finding.ok for finding in await check(kafka))


class Denied(NamedTuple):
    """What an ACL refuses to USER, in Kafka's numbers, and what `logsvc check` is to say of it."""

    kind: int
    name: str
    right: int
    finding: str
    advice: str


TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
"""This and the following: kafka/clients/…/common/resource, common/acl."""
LITERAL = 3
ALL, READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 2, 3, 4, 8, 10
DENY, ALLOW = 2, 3


async def allow_all_but(secured: Cluster, kind: int, name: str, right: int) -> None:
    async with KafkaQueries.open(secured.settings()) as queries:
        for operation, permission in ((ALL, ALLOW), (right, DENY)):
            request = CreateAclsRequest(kind, name, LITERAL, f"User:{USER}", "*", operation, permission)
            answer = await queries.client.send(queries.client.get_random_node(), request)
            assert [code for code, _ in answer.creation_responses] == [0]


@pytest.mark.parametrize(
    "denied",
    [
        Denied(TOPIC, "{prefix}.1", WRITE, "{prefix}.1 rights", "Grant WRITE on topic {prefix}.1 to alice."),
        Denied(TOPIC, "{prefix}.dead", WRITE, "{prefix}.dead rights", "Grant WRITE on topic {prefix}.dead to alice."),
        Denied(GROUP, "{prefix}-store", READ, "group {prefix}-store rights",
               "Grant READ on group {prefix}-store to alice."),
        Denied(GROUP, "{prefix}.drains", READ, "group {prefix}.drains rights",
               "Grant READ on group {prefix}.drains to alice."),
        Denied(TRANSACTIONAL_ID, "{prefix}/check", WRITE, "transactional ids",
               "Grant WRITE on them, and see that brokers can make the topic __transaction_state."),
    ],
    ids=lambda denied: denied.finding,
)  # fmt: skip
async def test_a_right_that_is_missing_is_named(secured: Cluster, certificates: Certificates, denied: Denied):
    kafka = settings(secured, certificates, "sasl_ssl")
    await migrate(kafka, PARTITIONS)
    name = denied.name.format(prefix=kafka.prefix)
    await allow_all_but(secured, denied.kind, name, denied.right)

    async def bad() -> list[Finding]:
        return [finding for finding in await check(kafka) if not finding.ok]

    await until(bad, what="the ACL holds")
    (finding,) = await bad()
    assert finding.name == denied.finding.format(prefix=kafka.prefix)
    assert finding.todo == denied.advice.format(prefix=kafka.prefix)


async def test_settings_that_may_not_be_looked_at_are_told_of_and_hold_nobody_up(
    secured: Cluster, certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    kafka = settings(secured, certificates, "sasl_ssl")
    await migrate(kafka, PARTITIONS)
    topic = f"{kafka.prefix}.1"
    await allow_all_but(secured, TOPIC, topic, DESCRIBE_CONFIGS)

    async def warned() -> bool:
        caplog.clear()
        async with KafkaBus.open(kafka) as bus:
            await bus.append(stream(), b"1\n")
        return bool(caplog.messages)

    await until(warned, what="the ACL holds")
    async with KafkaQueries.open(kafka) as queries:
        await allow_all_but(secured, TOPIC, "hidden", DESCRIBE)

        async def hidden() -> bool:
            try:
                return bool(await queries.replicas("hidden"))
            except Hidden as error:
                return str(error) == "this user lacks the right to DESCRIBE hidden"

        await until(hidden, what="the other ACL holds")
    (said,) = caplog.messages
    assert said.startswith(
        f"this user lacks the right to DESCRIBE_CONFIGS of {topic}, so whether Kafka is set as it must"
    )


@pytest.mark.parametrize(
    ("security", "others", "words"),
    [
        ("sasl_ssl", {"password": "wrong"}, "name or password are refused for 'alice' by SCRAM-SHA-512"),
        ("sasl_plaintext", {"password": "wrong", "sasl_mechanism": "PLAIN"}, "name or password are refused"),
        ("sasl_plaintext", {"username": "bob"}, "name or password are refused for 'bob'"),
        ("sasl_plaintext", {"sasl_mechanism": "SCRAM-SHA-256"}, "it doesn't take SCRAM-SHA-256"),
        ("ssl", {}, "see kafka.security and kafka.cert_file"),
        ("sasl_ssl", {"ca_file": "other"}, "its certificate is not trusted"),
    ],
)
async def test_what_is_refused_is_said_in_plain_words(
    secured: Cluster, certificates: Certificates, security: str, others: dict[str, object], words: str
):
    if "ca_file" in others:
        others = {"ca_file": str(certificates.other_authority)}
    kafka = settings(secured, certificates, security, **others)
    with pytest.raises(BusError) as refusal:
        await migrate(kafka, PARTITIONS)
    assert words in str(refusal.value)
    # Without a certificate the broker hangs up, as one does that stops.
    assert isinstance(refusal.value, BusAway) == (security == "ssl" and "closes" in str(refusal.value))
    (finding,) = await check(kafka)
    assert words in finding.found
    assert not finding.ok
    assert PASSWORD not in str(refusal.value) + str(finding)


async def test_certificates_that_cannot_be_read(secured: Cluster, certificates: Certificates):
    kafka = settings(secured, certificates, "ssl", ca_file="no/such/file")
    with pytest.raises(ConfigError, match=r"kafka\.ca_file, kafka\.cert_file or kafka\.key_file can't be used"):
        await migrate(kafka, PARTITIONS)


def test_the_password_is_not_shown(secured: Cluster, certificates: Certificates):
    kafka = settings(secured, certificates, "sasl_ssl")
    assert PASSWORD not in repr(kafka)
