"""The id of a topic, by which one that was deleted and made again is told from the one before; its size, and rights.

aiokafka asks for metadata in versions that have no ids, so version 10 of that request is written down here, as
Kafka's protocol guide has it.
"""

from io import BytesIO
from typing import Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


class TopicId(AbstractType):  # type: ignore[misc] # aiokafka has no types
    """16 bytes."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_NAME = CompactString("utf-8")


class _Response(Response):  # type: ignore[misc] # as above
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME),
                                 ("tags", TaggedFields))),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        ("topics", CompactArray(
            ("error_code", Int16), ("name", _NAME), ("topic_id", TopicId), ("is_internal", Boolean),
            ("partitions", CompactArray(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", CompactArray(Int32)), ("isr", CompactArray(Int32)), ("offline", CompactArray(Int32)),
                ("tags", TaggedFields))),
            ("authorized_operations", Int32), ("tags", TaggedFields))),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )  # fmt: skip


class _Struct(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", TopicId), ("name", _NAME), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Request(Request[_Struct]):  # type: ignore[misc] # as above
    API_KEY = 3

    def __init__(self, topic: str, *, rights: bool = False) -> None:
        self._topic, self._rights = topic, rights

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class([(UUID(int=0), self._topic, {})], False, False, self._rights, {})


async def topic_id(client: AIOKafkaClient, topic: str) -> str:
    """The id that Kafka gave a topic when it was made. Raises aiokafka's errors."""
    answer = await client.send(client.get_random_node(), _Request(topic))
    ((code, _, found, *_),) = answer.topics
    if code:
        raise for_code(code)
    return str(found)


async def topic_replicas(client: AIOKafkaClient, topic: str) -> list[int]:
    """How many brokers each partition has; none where there is no such topic. Raises aiokafka's errors."""
    answer = await client.send(client.get_random_node(), _Request(topic))
    ((code, _, _, _, partitions, *_),) = answer.topics
    if code == UnknownTopicOrPartitionError.errno:
        return []
    if code:
        raise for_code(code)
    return [len(replicas) for _, _, _, _, replicas, *_ in partitions]


RIGHTS: Final = {"READ": 3, "WRITE": 4, "DESCRIBE_CONFIGS": 10, "ALTER_CONFIGS": 11}
"""Kafka's numbers of what somebody may do with a topic."""


async def topic_rights(client: AIOKafkaClient, topic: str) -> frozenset[str]:
    """Which of RIGHTS the user has. Raises aiokafka's errors."""
    answer = await client.send(client.get_random_node(), _Request(topic, rights=True))
    ((code, _, _, _, _, bits, _),) = answer.topics
    if code:
        raise for_code(code)
    return frozenset(name for name, number in RIGHTS.items() if bits >> number & 1)
