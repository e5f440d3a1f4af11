"""Positions on Kafka: a compacted topic, a share of the drains a partition, each served by one process.

The members of a consumer group have its partitions assigned, and that is all that the group is for. What keeps a former
holder from saving is the fence that the next one writes (see `KafkaTables`), so however late somebody hears of having
lost a share, positions never go back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka_batch import Outgoing
from logsvc.bus.kafka_client import open_consumer, stop
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.bus.kafka_tables import KafkaTables, Table, drains_topic
from logsvc.bus.kafka_writer import KafkaWriter
from logsvc.config import Kafka
from logsvc.drains.model import DrainStatus, Position
from logsvc.drains.records import position_key, positions_of, status_key, told_of
from logsvc.drains.registry import ShareLost
from logsvc.drains.watched import Watched
from logsvc.errors import BusError, Fenced
from logsvc.tasks import background

_SESSION: Final = 6.0
"""Seconds of silence after which a process counts as gone, and others get its shares."""
_HEARTBEAT: Final = 0.5
"""Seconds between two, and at most until a process hears that another is gone."""
_POLL: Final = 1.0

logger = logging.getLogger(__name__)


class KafkaPositions:
    """See `Positions`. Made by `open`."""

    def __init__(self, topic: str, tables: KafkaTables) -> None:
        self._topic, self._tables = topic, tables
        self._assigned: Watched[frozenset[int]] = Watched(frozenset())

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka) -> AsyncIterator["KafkaPositions"]:
        """Join those who deliver drains, for the block. Raises ConfigError before `migrate`, BusError."""
        topic = drains_topic(settings.prefix)
        async with (
            KafkaQueries.open(settings) as queries,
            KafkaTables.open(settings, topic, queries) as tables,
            background() as tasks,
        ):
            positions = cls(topic, tables)
            consumer = await _joined(settings, topic, positions)
            following = tasks.create_task(_follow(consumer), name="shares of drains")
            try:
                yield positions
            finally:
                following.cancel()
                await stop(consumer)  # leaves the group, so that others take over at once

    @property
    def shares(self) -> int:
        return self._tables.partitions

    @property
    def assigned(self) -> frozenset[int]:
        return self._assigned.value

    async def reassigned(self, seen: frozenset[int]) -> frozenset[int]:
        """See `Positions.reassigned`."""
        return await self._assigned.changed(seen)

    def assign(self, shares: frozenset[int]) -> None:
        """Hear what this process is to hold."""
        if shares != self.assigned:
            logger.info("%d of %d shares of drains are delivered here", len(shares), self.shares)
            self._assigned.set(shares)

    @asynccontextmanager
    async def hold(self, share: int) -> AsyncIterator["_KafkaShare"]:
        """See `Positions.hold`."""
        writer = self._tables.writer(f"share-{share}")
        try:
            table = Table(share)
            await self._tables.read(table, upto=await self._tables.take_turn(writer, share))
            yield _KafkaShare(share, writer, table.values)
        finally:
            await writer.close()


class _KafkaShare:
    """See `Share`."""

    def __init__(self, number: int, writer: KafkaWriter, records: Mapping[bytes, bytes]) -> None:
        self.number = number
        self.kept = told_of(records)
        self._writer, self._positions = writer, positions_of(records)
        self._over: BusError | None = None
        """Why nothing is saved any more. The writer would take its name back from whoever has it by now."""

    def position(self, drain: str) -> Position | None:
        return self._positions.get(drain)

    async def save(self, drain: str, position: Position) -> None:
        await self._put(position_key(drain), position.encode())
        self._positions[drain] = position

    async def report(self, drain: str, status: DrainStatus) -> None:
        await self._put(status_key(drain), status.encode())

    async def forget(self, drain: str) -> None:
        await asyncio.gather(self._put(position_key(drain), None), self._put(status_key(drain), None))
        self._positions.pop(drain, None)

    async def _put(self, key: bytes, value: bytes | None) -> None:
        if self._over is not None:
            raise type(self._over)(str(self._over))
        try:
            await self._writer.submit(self.number, Outgoing(key, value, ()))
        except Fenced as error:
            self._over = ShareLost("these drains are delivered by another process now")
            raise self._over from error
        except BusError as error:
            self._over = error
            raise


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Hears from the group who has what."""

    def __init__(self, consumer: AIOKafkaConsumer, positions: KafkaPositions) -> None:
        self._consumer, self._positions = consumer, positions

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Nothing is let go before it is known who has it next: mostly it stays."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by aiokafka with all that this member has now."""
        self._consumer.pause(*assigned)  # records are read by others: see KafkaTables
        self._positions.assign(frozenset(place.partition for place in assigned))


async def _joined(settings: Kafka, topic: str, positions: KafkaPositions) -> AIOKafkaConsumer:
    joined = await open_consumer(
        settings,
        group_id=topic,
        auto_offset_reset="latest",
        session_timeout_ms=int(_SESSION * 1000),
        heartbeat_interval_ms=int(_HEARTBEAT * 1000),
        partition_assignment_strategy=[StickyPartitionAssignor],
    )
    joined.subscribe([topic], listener=_Listener(joined, positions))
    return joined


async def _follow(consumer: AIOKafkaConsumer) -> None:
    """Stay a member. Everything is paused, so nothing ever comes; but who doesn't ask is taken for one that hangs."""
    while True:
        try:
            await consumer.getmany(timeout_ms=int(_POLL * 1000))
        except KafkaError as error:
            logger.warning("the shares of drains can't be followed: %s", error)
            await asyncio.sleep(_POLL)
