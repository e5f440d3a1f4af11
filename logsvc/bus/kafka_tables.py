"""Compacted topics: a partition is a table, the last value of each key. Written by processes that take turns.

Whoever wants to write takes a turn under a name: its fence ends the turn of whoever had that name, so that Kafka itself
refuses what that one still sends (`docs/adr/0010`). Who has read up to its own fence has read everything that counts.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aiokafka.errors import OffsetOutOfRangeError
from zstandard import ZstdCompressor

from logsvc.bus.kafka_batch import Outgoing
from logsvc.bus.kafka_queries import EARLIEST, KafkaQueries
from logsvc.bus.kafka_records import FENCE_HEADERS
from logsvc.bus.kafka_sender import KafkaSender
from logsvc.bus.kafka_writer import KafkaWriter, Topic
from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError, Fenced
from logsvc.tasks import background

FENCE: Final = b"fence"
"""Key of fences, which keep no value: compacted topics take no record without a key."""
_TAKEOVERS: Final = 10
"""How often a turn is tried for while others take theirs."""
_BACKOFF: Final = 0.1


def drains_topic(prefix: str) -> str:
    """Where drains' positions are kept."""
    return f"{prefix}.drains"


def drains_settings(settings: Kafka) -> dict[str, str]:
    """What that topic must be set to: who takes a partition over reads all of it, so it is compacted soon."""
    return {
        "cleanup.policy": "compact",
        "segment.bytes": str(1024 * 1024),
        "segment.ms": str(2 * 60 * 1000),
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": str(3_600_000),
        "min.insync.replicas": str(min(settings.min_insync, settings.replication)),
        "unclean.leader.election.enable": "false",
    }


@dataclass(slots=True, eq=False, weakref_slot=True)
class Table:
    """A partition, as far as it was read."""

    partition: int
    prefix: bytes = b""
    """Only keys that begin so are kept."""
    next: int | None = None
    """The offset to go on at; None before the first."""
    values: dict[bytes, bytes] = field(default_factory=dict)

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        if key is None or key == FENCE or not key.startswith(self.prefix):
            return
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


class KafkaTables:
    """One compacted topic. Made by `open`."""

    def __init__(self, settings: Kafka, topic: Topic, partitions: int) -> None:
        self._timeout = settings.delivery_timeout
        self._topic = topic
        self.partitions = partitions

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka, name: str, queries: KafkaQueries) -> AsyncIterator["KafkaTables"]:
        """Use a topic for the block. Raises ConfigError before `migrate`, BusError."""
        partitions = len(await queries.replicas(name))
        if not partitions:
            raise ConfigError(f"there is no topic {name} yet: run logsvc migrate")
        async with background() as tasks:
            sender = KafkaSender(tasks, queries, name, settings.delivery_timeout)
            compress = ZstdCompressor(level=1).compress
            timeout = settings.delivery_timeout
            topic = Topic(tasks, queries, sender, name, compress, timeout, _ready, _end, _acknowledged, chunks=False)
            try:
                yield cls(settings, topic, partitions)
            finally:
                await sender.close()

    def writer(self, name: str) -> KafkaWriter:
        """For whoever takes turns under a name; to be closed by whom it is for."""
        return KafkaWriter(self._topic, f"{self._topic.name}/{name}")

    async def take_turn(self, writer: KafkaWriter, partition: int) -> int:
        """End the turn of whoever writes under this name; the offset of the fence. Raises BusError."""
        for _ in range(_TAKEOVERS):
            with suppress(Fenced):
                return await writer.submit(partition, Outgoing(FENCE, b"", FENCE_HEADERS))
        raise BusError(f"others keep taking over {writer.name}")

    async def read(self, table: Table, upto: int = -1) -> None:
        """Have a table hold everything up to the record at `upto`, else all there is. Raises BusError."""
        topic, queries = self._topic.name, self._topic.queries
        try:
            async with asyncio.timeout(self._timeout):
                if table.next is None:
                    table.next = (await queries.offsets(topic, [table.partition], EARLIEST))[table.partition]
                while True:
                    records, following = await queries.records(topic, table.partition, table.next)
                    for record in records:
                        table.apply(record.key, record.value)
                    ended = following == table.next
                    table.next = following
                    if table.next > upto and (ended or upto >= 0):
                        return
                    if ended:
                        await asyncio.sleep(_BACKOFF)  # a broker that has just become the leader doesn't know all yet
        except OffsetOutOfRangeError:
            raise BusError(f"{topic} was deleted and made again") from None
        except TimeoutError:
            raise BusError(f"{topic} can't be read up to its end within {self._timeout:g} s") from None


async def _ready() -> None:
    """Nothing has to be so before such a topic is written."""


def _end(partition: int) -> int:
    """Nobody counts how far such a topic goes."""
    del partition
    return 0


def _acknowledged(*_: int) -> None:
    """As above."""
