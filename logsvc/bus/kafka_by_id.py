"""Reading and writing by the id of a topic: one that was deleted and made again is neither read nor written.

aiokafka asks by name, and a name says nothing of which topic has it now. Version 13 of both requests has the id instead
(KIP-516); they are written down here, as Kafka's protocol guide has them.
"""

import asyncio
from io import BytesIO
from struct import Struct
from typing import Any, Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.types import (
    AbstractType,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from logsvc.bus.kafka_topic import TopicId

FETCH: Final = 1
BY_ID: Final = 13
"""The API key of Fetch, and the version of it that has ids: brokers know that since Kafka 3.1."""
_STRANGE: Final = frozenset({100, 103})
"""UNKNOWN_TOPIC_ID and INCONSISTENT_TOPIC_ID."""
_BACKOFF: Final = 0.1

_TEXT = CompactString("utf-8")


class _Head(AbstractType):  # type: ignore[misc] # aiokafka has no types
    """Number, error and three offsets of a partition in an answer, read at once: there are many."""

    _FIELDS = Struct(">ihqqq")

    @classmethod
    def decode(cls, data: BytesIO) -> tuple[int, ...]:
        return cls._FIELDS.unpack(data.read(cls._FIELDS.size))


class _FetchResponse(Response):  # type: ignore[misc] # as above
    API_KEY = FETCH
    API_VERSION = BY_ID
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        ("topics", CompactArray(
            ("topic_id", TopicId),
            ("partitions", CompactArray(
                ("head", _Head),
                ("aborted", CompactArray(("producer_id", Int64), ("first_offset", Int64), ("tags", TaggedFields))),
                ("preferred_read_replica", Int32), ("records", CompactBytes), ("tags", TaggedFields))),
            ("tags", TaggedFields))),
        ("tags", TaggedFields),
    )  # fmt: skip


class _FetchStruct(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = FETCH
    API_VERSION = BY_ID
    RESPONSE_TYPE = _FetchResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        ("topics", CompactArray(
            ("topic_id", TopicId),
            ("partitions", CompactArray(
                ("partition", Int32), ("current_leader_epoch", Int32), ("fetch_offset", Int64),
                ("last_fetched_epoch", Int32), ("log_start_offset", Int64), ("max_bytes", Int32),
                ("tags", TaggedFields))),
            ("tags", TaggedFields))),
        ("forgotten", CompactArray(
            ("topic_id", TopicId), ("partitions", CompactArray(Int32)), ("tags", TaggedFields))),
        ("rack_id", _TEXT),
        ("tags", TaggedFields),
    )  # fmt: skip


class _Fetch(Request[_FetchStruct]):  # type: ignore[misc] # as above
    """What another asks of one topic by name."""

    API_KEY = FETCH

    def __init__(self, topic_id: UUID, asked: FetchRequest) -> None:
        self._topic_id, self._asked = topic_id, asked

    def build(self, request_struct_class: type[_FetchStruct]) -> _FetchStruct:
        named = self._asked.build(FetchRequest_v11)
        ((_, places),) = named.topics
        partitions: list[tuple[Any, ...]] = [
            (part, epoch, offset, -1, start, size, {}) for part, epoch, offset, start, size in places
        ]
        return request_struct_class(
            named.replica_id, named.max_wait_time, named.min_bytes, named.max_bytes, named.isolation_level,
            named.session_id, named.session_epoch, [(self._topic_id, partitions, {})], [], named.rack_id, {},
        )  # fmt: skip


async def fetch_by_id(send: Any, node: int, request: FetchRequest, topic_id: str) -> FetchResponse_v11:
    """The answer to a request for one topic, which is of the topic of this id or says UNKNOWN_TOPIC_OR_PARTITION.

    `send` is an AIOKafkaClient's. Raises aiokafka's errors.
    """
    answer = await send(node, _Fetch(UUID(topic_id), request))
    ((name, _),) = request.topics
    topics = [
        (name, [(number, code_of(code), *offsets, *rest) for (number, code, *offsets), *rest, _ in parts])
        for _, parts, _ in answer.topics
    ]
    if any(part[1] == UnknownTopicOrPartitionError.errno for _, parts in topics for part in parts):
        await asyncio.sleep(_BACKOFF)  # aiokafka's consumer asks again at once
    return FetchResponse_v11(answer.throttle_time_ms, answer.error_code, answer.session_id, topics)


def read_by_id(client: AIOKafkaClient, topic_id: str) -> None:
    """Have the client of a consumer, which reads one topic, fetch by its id."""
    send = client.send

    async def sent(node: int, request: Any, **more: Any) -> Any:
        if isinstance(request, FetchRequest):
            return await fetch_by_id(send, node, request, topic_id)
        return await send(node, request, **more)

    client.send = sent


class _ProduceResponse(Response):  # type: ignore[misc] # as above
    API_KEY = 0
    API_VERSION = BY_ID
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("topic_id", TopicId),
            ("partitions", CompactArray(
                ("partition", Int32), ("error_code", Int16), ("offset", Int64), ("timestamp", Int64),
                ("log_start_offset", Int64),
                ("record_errors", CompactArray(
                    ("batch_index", Int32), ("message", _TEXT), ("tags", TaggedFields))),
                ("error_message", _TEXT), ("tags", TaggedFields))),
            ("tags", TaggedFields))),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )  # fmt: skip


class _ProduceStruct(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = BY_ID
    RESPONSE_TYPE = _ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("required_acks", Int16),
        ("timeout_ms", Int32),
        ("topics", CompactArray(
            ("topic_id", TopicId),
            ("partitions", CompactArray(("partition", Int32), ("records", CompactBytes), ("tags", TaggedFields))),
            ("tags", TaggedFields))),
        ("tags", TaggedFields),
    )  # fmt: skip


class Produce(Request[ProduceRequest_v7 | _ProduceStruct]):  # type: ignore[misc] # as above
    """Write batches, by partition, to one topic: by its id where the broker knows that, from Kafka 4.1 on."""

    API_KEY = 0

    def __init__(self, topic: str, topic_id: str, acks: int, timeout_ms: int, batches: dict[int, bytes]) -> None:
        self._topic, self._topic_id = topic, topic_id
        self._acks, self._timeout_ms = acks, timeout_ms
        self._batches = batches

    def build(self, request_struct_class: type[Any]) -> Any:
        batches = self._batches.items()
        if request_struct_class is _ProduceStruct:
            topic: tuple[Any, ...] = (
                UUID(self._topic_id),
                [(partition, records, {}) for partition, records in batches],
                {},
            )
            return _ProduceStruct(None, self._acks, self._timeout_ms, [topic], {})
        return request_struct_class(None, self._acks, self._timeout_ms, [(self._topic, [*batches])])


def code_of(code: int) -> int:
    """An error code of an answer, where no topic of that id is as no topic of that name: asked again, it may be there.

    A broker that has just started, or is behind, does not know all topics.
    """
    return int(UnknownTopicOrPartitionError.errno) if code in _STRANGE else code
