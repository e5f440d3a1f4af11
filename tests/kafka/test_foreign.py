"""Records that logsvc did not write are counted and skipped, and nothing stops; those of a newer logsvc do stop it."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition

from logsvc import metrics
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin, migrate
from logsvc.bus.kafka_client import connection
from logsvc.bus.kafka_group import KafkaGroup
from logsvc.bus.kafka_records import Decoded
from logsvc.bus.protocol import GroupReader, LiveReader
from logsvc.config import Kafka
from logsvc.errors import NewerFormat, OutOfRange
from logsvc.model import MAX_CHUNK
from tests.support.bus import PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster
from tests.support.wait import DEADLINE

HERE = partition_of("app")
KEY = stream().key()
OURS = [("v", b"1")]

FOREIGN = {
    "no key": (None, b"a line\n", []),
    "no key but ours else": (None, b"a line\n", OURS),
    "a text as key": (b"user-17", b"a line\n", OURS),
    "another JSON as key": (b'{"tenant":"t"}', b"a line\n", OURS),
    "a key with a wrong type": (KEY.replace(b'"tenant"', b"17", 1), b"a line\n", OURS),
    "a stream's key, but no version": (KEY, b"a line\n", []),
    "a version that is none": (KEY, b"a line\n", [("v", b"\xff\x00")]),
    "a version that is a long number": (KEY, b"a line\n", [("v", b"1" * 100)]),
    "another program's version": (b"user-17", b"a line\n", [("v", b"2")]),
    "another program's version, and no key": (None, b"a line\n", [("v", b"0")]),
    "a fence of another program": (None, b"", [("v", b"2"), ("f", b"")]),
    "a version without value": (KEY, b"a line\n", [("v", None)]),
    "a tombstone": (KEY, None, OURS),
    "binary": (b"\x00\xff" * 50, bytes(range(256)) * 10, [("trace", b"\xff")]),
    "5 MB": (KEY, bytes(5_000_000), OURS),
    "one byte too many": (KEY, bytes(MAX_CHUNK + 1), OURS),
}


class Stranger:
    """Another program that writes to the same topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def write(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
        await self._producer.send_and_wait(self._topic, value, key=key, partition=HERE, headers=headers)

    async def write_illegible(self) -> None:
        """A record with a header of which the name isn't UTF-8, as aiokafka itself does not write it."""

        class Latin1(str):
            __slots__ = ()

            def encode(self, *_: str) -> bytes:  # type: ignore[override]
                return super().encode("latin-1")

        batch = self._producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
        batch.append(timestamp=None, key=KEY, value=b"a line\n", headers=[(Latin1("caf\xe9"), b"")])
        await (await self._producer.send_batch(batch, self._topic, partition=HERE))


@pytest.fixture
async def settings(kafka: Cluster) -> Kafka:
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaAdmin.open(settings) as admin:
        await admin.set_config(f"{settings.prefix}.1", {"max.message.bytes": "10000000"})
    return settings


@pytest.fixture
async def stranger(settings: Kafka) -> AsyncIterator[Stranger]:
    producer = AIOKafkaProducer(**connection(settings), max_request_size=10_000_000, acks="all")
    await producer.start()
    yield Stranger(producer, f"{settings.prefix}.1")
    await producer.stop()


async def values(reader: LiveReader | GroupReader, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(DEADLINE):
        while len(got) < count:
            fetches = await (reader.fetch(1 << 20, DEADLINE) if isinstance(reader, KafkaGroup) else reader.fetch())
            got += [chunk.value for fetched in fetches for chunk in fetched.chunks]
    return got


@pytest.mark.parametrize("record", FOREIGN.values(), ids=FOREIGN)
async def test_every_reader_goes_on_behind_a_foreign_record(settings: Kafka, stranger: Stranger, record: tuple):
    async with KafkaBus.open(settings) as bus:
        live, group = bus.live(), bus.group()
        live.watch(HERE, 0)
        before = metrics.bus_foreign._value.get()
        await bus.append(stream(), b"1\n")
        await stranger.write(*record)
        await bus.append(stream(), b"2\n")

        (first, second) = await read_on(bus, 0)
        assert (first, second) == (b"1\n", b"2\n")
        assert await values(live, 2) == [b"1\n", b"2\n"]
        assert await values(group, 2) == [b"1\n", b"2\n"]
        assert metrics.bus_foreign._value.get() == before + 3, "each reader has met it once"


async def read_on(bus: KafkaBus, offset: int) -> list[bytes]:
    got, end = [], (await bus.bounds(HERE)).end
    while offset < end:
        fetched = await bus.read(HERE, offset, 1 << 20)
        assert fetched.next > offset
        got += [chunk.value for chunk in fetched.chunks]
        offset = fetched.next
    return got


async def test_headers_that_are_not_text_stop_nobody(settings: Kafka, stranger: Stranger):
    """aiokafka can't decode such a batch."""
    async with KafkaBus.open(settings) as bus:
        live, group = bus.live(), bus.group()
        for partition in range(PARTITIONS):
            live.watch(partition, 0)
        await bus.append(stream(), b"1\n")
        await stranger.write_illegible()
        await bus.append(stream(), b"2\n")
        await stranger.write_illegible()
        await bus.append(stream(), b"3\n")
        assert await read_on(bus, 0) == [b"1\n", b"2\n", b"3\n"]
        assert await values(live, 3) == [b"1\n", b"2\n", b"3\n"]
        assert await values(group, 3) == [b"1\n", b"2\n", b"3\n"]


async def test_what_the_bus_deletes_just_before_it_is_read_around_headers_that_are_not_text(
    settings: Kafka, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
):
    """As where a reader is so far behind that retention overtakes it, at that moment."""
    async with KafkaBus.open(settings) as bus:
        live, group = bus.live(), bus.group()
        live.watch(HERE, 0)
        await stranger.write_illegible()
        await bus.append(stream(), b"1\n")
        await bus.append(stream(), b"2\n")
        read = bus.fetch_at

        async def too_late(*place: int) -> Decoded:
            async with KafkaAdmin.open(settings) as admin:
                await admin._client.delete_records({TopicPartition(bus.topic, HERE): RecordsToDelete(before_offset=2)})
            return await read(*place)

        monkeypatch.setattr(bus, "fetch_at", too_late)
        with pytest.raises(OutOfRange) as refusal:
            await values(live, 1)
        assert (refusal.value.start, refusal.value.partition) == (2, HERE)
        live.watch(HERE, refusal.value.start)
        assert await values(live, 1) == [b"2\n"]
        assert await values(group, 1) == [b"2\n"]


async def test_foreign_records_are_reported_once_a_minute(
    settings: Kafka, stranger: Stranger, caplog: pytest.LogCaptureFixture
):
    now = 0.0
    async with KafkaBus.open(settings, clock=lambda: now) as bus:
        with caplog.at_level(logging.WARNING, "logsvc"):
            for _ in range(3):
                await stranger.write(*FOREIGN["no key"])
                await read_on(bus, 0)
            assert len(caplog.records) == 1
            now = 61.0
            await read_on(bus, 0)
        assert [record.getMessage() for record in caplog.records] == [
            f"1 records in {bus.topic} were not written by logsvc: skipped",
            f"8 records in {bus.topic} were not written by logsvc: skipped",
        ]


@pytest.mark.parametrize(("version", "what"), [(b"2", "newer"), (b"0", "older")])
async def test_another_format_version_stops_every_reader_there(
    settings: Kafka, stranger: Stranger, version: bytes, what: str
):
    async with KafkaBus.open(settings) as bus:
        live, group = bus.live(), bus.group()
        live.watch(HERE, 0)
        await bus.append(stream(), b"1\n")
        await stranger.write(KEY, b"a line\n", [("v", version)])
        await bus.append(stream(), b"2\n")

        first = await bus.read(HERE, 0, 1 << 20)
        assert ([chunk.value for chunk in first.chunks], first.next) == ([b"1\n"], 1)
        for _ in range(2):
            with pytest.raises(NewerFormat, match=f"has format {version.decode()}, {what}"):
                await bus.read(HERE, 1, 1 << 20)
        assert await values(live, 1) == [b"1\n"]
        assert await values(group, 1) == [b"1\n"]
        for _ in range(2):
            with pytest.raises(NewerFormat):
                await live.fetch()
            with pytest.raises(NewerFormat):
                await group.fetch(1 << 20, DEADLINE)
