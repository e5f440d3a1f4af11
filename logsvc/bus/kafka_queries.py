"""Questions to Kafka that need no subscription: where a partition starts and ends, what is at an offset, how far a
group is. Each is asked of the leader and asked again while another answer may come, up to the delivery timeout.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    ConcurrentTransactions,
    GroupAuthorizationFailedError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.admin import ApiVersionRequest, DescribeConfigsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka_by_id import fetch_by_id
from logsvc.bus.kafka_client import connection, never_lost, unreachable
from logsvc.bus.kafka_records import Decoded, decode
from logsvc.bus.kafka_topic import topic_id, topic_replicas, topic_rights
from logsvc.config import Kafka
from logsvc.errors import BusAway, BusError

EARLIEST: Final = -2
LATEST: Final = -1
_CONSUMER: Final = -1
_DEBUGGER: Final = -2
"""Replica id of a client that is told the leader's own end, unreplicated records included."""
_BACKOFF: Final = 0.1
_SETTLED: Final = 5.0
"""Seconds after which a leader knows what was acknowledged before it, and a former one that it is none."""
_TRANSACTION_MS: Final = 60_000
"""Brokers want to know how long a transaction may take, though there is none."""
_LEAST_FETCH: Final = 64 * 1024
_MOST_FETCH: Final = 1024 * 1024

_TOPIC: Final = 2
_BROKER: Final = 4
"""Kinds of what has settings."""

T = TypeVar("T")


class Hidden(BusError):
    """The user may not look at it."""


class KafkaQueries:
    """One client. Concurrent questions are answered in the order in which a broker gets them."""

    def __init__(self, settings: Kafka, client: AIOKafkaClient) -> None:
        self.client = client
        self._timeout = settings.delivery_timeout

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka) -> AsyncIterator["KafkaQueries"]:
        """Connect, and close at the end of the block. Raises BusError where no broker can be used."""
        client = AIOKafkaClient(**connection(settings))
        never_lost(client, settings)
        try:
            try:
                await client.bootstrap()
            except KafkaError as error:
                raise await unreachable(settings) from error
            yield cls(settings, client)
        finally:
            await client.close()

    async def offsets(self, topic: str, partitions: Collection[int], at: int) -> dict[int, int]:
        """EARLIEST or LATEST of each partition, as consumers see it. Raises BusError."""
        return await self._asked(lambda: self._offsets(topic, partitions, at, _CONSUMER))

    async def ends(self, topic: str, partitions: Collection[int], known: Mapping[int, int]) -> dict[int, int]:
        """LATEST of each partition; `known` are ends that they have had. Raises BusError.

        A broker that has just become a leader, or doesn't know yet that it is one no more, says less than that for a
        moment. So it is asked again, for a while.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + _SETTLED
        while True:
            ends = await self.offsets(topic, partitions, LATEST)
            if clock() > until or all(end >= known.get(partition, 0) for partition, end in ends.items()):
                return ends
            with suppress(TimeoutError):
                async with asyncio.timeout(_BACKOFF):
                    await self.client.force_metadata_update()
            await asyncio.sleep(_BACKOFF)

    async def written_ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """The leaders' ends: as LATEST, with records that no other broker has yet. Raises BusError."""
        return await self._asked(lambda: self._offsets(topic, partitions, LATEST, _DEBUGGER))

    async def _offsets(self, topic: str, partitions: Collection[int], at: int, asking: int) -> dict[int, int]:
        by_leader = defaultdict(list)
        for partition in partitions:
            by_leader[await self.leader(topic, partition)].append((partition, at))
        answers = await asyncio.gather(
            *(self.client.send(node, OffsetRequest(asking, 0, [(topic, asked)])) for node, asked in by_leader.items())
        )
        found = {}
        for answer in answers:
            for _, parts in answer.topics:
                for partition, code, _, offset, *_ in parts:
                    _check(code)
                    found[partition] = offset
        return found

    async def topic_id(self, topic: str) -> str:
        """What Kafka calls the topic that has this name now. Raises BusError."""
        return await self._asked(lambda: topic_id(self.client, topic))

    async def rights(self, topic: str) -> frozenset[str]:
        """What the user may do with a topic; see RIGHTS. Raises BusError."""
        return await self._asked(lambda: topic_rights(self.client, topic))

    async def fetch(
        self, epoch: int, topic: str, topic_id: str, partition: int, offset: int, max_bytes: int
    ) -> Decoded:
        """Decode what is at `offset`, about `max_bytes`; nothing at the end. Nothing of a topic that has another id.

        Raises OffsetOutOfRangeError (aiokafka's) where there is no such offset, BusError.
        """
        size = min(max(max_bytes // 8, _LEAST_FETCH), _MOST_FETCH)  # compressed; the first batch comes whole
        buffer = await self._asked(lambda: self._fetch(topic, partition, offset, size, topic_id))
        return _decoded(epoch, partition, buffer, offset, max_bytes)

    async def records(self, topic: str, partition: int, offset: int) -> tuple[list[Any], int]:
        """A few KiB of records from `offset` on as aiokafka has them, and the offset behind them; none at the end.

        Raises OffsetOutOfRangeError (aiokafka's) where there is no such offset, BusError.
        """
        buffer = await self._asked(lambda: self._fetch(topic, partition, offset, _LEAST_FETCH))
        records = _Records(partition, buffer, offset)
        return [record for record in records if record.offset >= offset], records.next

    async def replicas(self, topic: str) -> list[int]:
        """How many brokers each partition of a topic has; none where there is no topic. Raises Hidden, BusError."""
        return await self._asked(lambda: self._replicas(topic))

    async def _replicas(self, topic: str) -> list[int]:
        try:
            return await topic_replicas(self.client, topic)
        except TopicAuthorizationFailedError:
            raise Hidden(f"this user lacks the right to DESCRIBE {topic}") from None

    async def topic_config(self, topic: str) -> dict[str, str]:
        """The settings in force for a topic. Raises Hidden, BusError."""
        return await self._asked(lambda: self._config(_TOPIC, topic))

    async def broker_config(self) -> dict[str, str]:
        """The settings of one broker. Raises Hidden, BusError."""
        return await self._asked(lambda: self._config(_BROKER))

    async def _config(self, kind: int, name: str = "") -> dict[str, str]:
        node = self.client.get_random_node()
        answer = await self.client.send(node, DescribeConfigsRequest([(kind, name or str(node), None)]))
        ((code, _, _, _, entries),) = answer.resources
        if code in {TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno}:
            whose = name if kind == _TOPIC else "the cluster"
            raise Hidden(f"this user lacks the right to DESCRIBE_CONFIGS of {whose}")
        _check(code)
        return {entry[0]: entry[1] for entry in entries}

    async def versions(self) -> dict[int, int]:
        """The newest version that a broker knows of each kind of request, by API key. Raises BusError."""
        return await self._asked(self._versions)

    async def _versions(self) -> dict[int, int]:
        answer = await self.client.send(self.client.get_random_node(), ApiVersionRequest())
        _check(answer.error_code)
        return {key: newest for key, _, newest in answer.api_versions}

    async def _fetch(self, topic: str, partition: int, offset: int, size: int, topic_id: str | None = None) -> bytes:
        request = FetchRequest(0, 0, size, 0, [(topic, [(partition, offset, size)])])
        leader, send = await self.leader(topic, partition), self.client.send
        answer = await (fetch_by_id(send, leader, request, topic_id) if topic_id else send(leader, request))
        ((_, (part,)),) = answer.topics
        _check(part[1])
        return part[-1] or b""

    async def committed(self, group: str, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """What the group has committed, of the partitions of which it has. Raises BusError."""
        return await self._asked(lambda: self._committed(group, topic, partitions))

    async def _committed(self, group: str, topic: str, partitions: Collection[int]) -> dict[int, int]:
        node = await self.client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await self.client.send(node, OffsetFetchRequest(group, [(topic, list(partitions))]))
        _check(getattr(answer, "error_code", 0))
        found = {}
        for _, parts in answer.topics:
            for partition, offset, _, code, *_ in parts:
                _check(code)
                if offset >= 0:
                    found[partition] = offset
        return found

    async def may_join(self, group: str) -> bool:
        """Whether the user may be a member of a group, and commit for it. Raises BusError."""
        return await self._asked(lambda: self._may_join(group))

    async def _may_join(self, group: str) -> bool:
        try:
            node = await self.client.coordinator_lookup(CoordinationType.GROUP, group)
            # Of a member that nobody knows: rights are looked at first, and nothing comes of it.
            answer = await self.client.send(node, HeartbeatRequest(group, -1, ""))
            _check(answer.error_code)
        except GroupAuthorizationFailedError:
            return False
        except (UnknownMemberIdError, IllegalGenerationError):
            pass
        return True

    async def producer(self, name: str) -> tuple[int, int]:
        """The id and the epoch of a producer under a name (`transactional.id`). Raises BusError.

        Whoever asked before has a lower epoch of the same id: each partition refuses that one from the first record
        of the new one on.
        """
        return await self._asked(lambda: self._producer(name))

    async def _producer(self, name: str) -> tuple[int, int]:
        node = await self.client.coordinator_lookup(CoordinationType.TRANSACTION, name)
        answer = await self.client.send(node, InitProducerIdRequest(name, _TRANSACTION_MS))
        if answer.error_code == ConcurrentTransactions.errno:
            raise GroupLoadInProgressError  # another asks at this moment: as with that, the answer is to ask again
        if answer.error_code == TransactionalIdAuthorizationFailed.errno:
            raise BusError(f"Kafka refuses to let {name} write: it needs the right to write to that transactional id")
        _check(answer.error_code)
        return answer.producer_id, answer.producer_epoch

    async def leader(self, topic: str, partition: int) -> int:
        """The broker that leads a partition, as far as is known here. Raises aiokafka's errors."""
        await self.client._wait_on_metadata(topic)  # noqa: SLF001 - its producer and consumer ask by this too
        leader = self.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader == -1:
            raise LeaderNotAvailableError
        return int(leader)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        last: KafkaError | None = None
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await ask()
                    except OffsetOutOfRangeError:
                        raise
                    except KafkaError as error:
                        if not error.retriable:
                            raise BusError(f"Kafka refuses: {error}") from error
                        last = error
                        if error.invalid_metadata or isinstance(error, NodeNotReadyError):
                            await self.client.force_metadata_update()
                    await asyncio.sleep(_BACKOFF)
        except TimeoutError:
            raise BusAway(f"Kafka did not answer within {self._timeout:g} s ({last or 'no answer'})") from last


def _check(code: int) -> None:
    if code:
        raise for_code(code)


class _Records:
    """The records of a fetch, batch by batch, each unpacked when it is come to."""

    def __init__(self, partition: int, buffer: bytes, offset: int) -> None:
        self._partition = partition
        self._batches = MemoryRecords(buffer)
        self.next = offset
        """The offset behind the batches that were come to."""
        self.illegible = 0
        """Batches with a header that aiokafka can't decode: logsvc wrote none of those."""

    def __iter__(self) -> Iterator[Any]:
        while self._batches.has_next():
            batch = self._batches.next_batch()
            if not batch.validate_crc():
                raise BusError(f"partition {self._partition} holds damaged records behind offset {self.next}")
            if not batch.is_control_batch:
                try:
                    yield from batch
                except UnicodeDecodeError:
                    self.illegible += 1
            self.next = max(self.next, batch.next_offset)


def _decoded(epoch: int, partition: int, buffer: bytes, offset: int, max_bytes: int) -> Decoded:
    records = _Records(partition, buffer, offset)
    got = decode(epoch, partition, records, offset, max_bytes)
    following = max(got.next, records.next) if got.ended else got.next
    return got._replace(next=following, foreign=got.foreign + records.illegible)
