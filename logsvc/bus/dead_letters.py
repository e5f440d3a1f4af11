"""Chunks that the store refuses for good, kept with the reason on a topic of their own: `<prefix>.dead`.

A record's key and value are those of the record on the bus, its headers as well, and: `place`, `<epoch>.<partition>.
<offset>` of that record; `appended`, its time, Unix ms; `reason`, one sentence, UTF-8. One chunk may be there twice.
Nothing reads them but people: `kcat -C -t logsvc.dead -f '%h\\n%s\\n'`.
"""

from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka_client import connection, unreachable
from logsvc.bus.kafka_records import MAX_RECORD, headers
from logsvc.config import Kafka
from logsvc.errors import BadKey, BusError
from logsvc.model import AppId, Chunk, Stream

KEPT_BYTES: Final = 1024 * 1024 * 1024
"""The oldest go when the topic is larger than this."""
KEPT_DAYS: Final = 30
"""Longer than anybody takes to look, and not for ever: what the law has removed may be among them."""


def dead_topic(prefix: str) -> str:
    return f"{prefix}.dead"


def dead_settings(settings: Kafka) -> dict[str, str]:
    """What the topic is set to when it is made; it has one partition."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(KEPT_DAYS * 86_400_000),
        "retention.bytes": str(KEPT_BYTES),
        "max.message.bytes": str(MAX_RECORD + 64 * 1024),
        "min.insync.replicas": str(min(settings.min_insync, settings.replication)),
        "unclean.leader.election.enable": "false",
    }


async def count_aside(settings: Kafka, app: AppId) -> int:
    """How many chunks of an app were set aside and are still there. Reads all of the topic. Raises BusError."""
    place = TopicPartition(dead_topic(settings.prefix), 0)
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    count = 0
    try:
        await consumer.start()
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        await consumer.seek_to_beginning(place)
        while await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=1000)).get(place, ()):
                with suppress(BadKey):
                    count += Stream.of(record.key or b"").app_id == app
    except KafkaError as error:
        raise BusError(f"{place.topic} can't be read: {error}") from error
    finally:
        await consumer.stop()
    return count


async def set_aside(settings: Kafka, chunk: Chunk, reason: str) -> None:
    """Keep a chunk; it is on enough brokers when this returns. Raises BusError.

    Connects each time: it happens next to never.
    """
    topic = dead_topic(settings.prefix)
    place = f"{chunk.epoch}.{chunk.partition}.{chunk.offset}"
    told = {"place": place, "appended": str(chunk.appended), "reason": reason}
    producer = AIOKafkaProducer(
        **connection(settings), acks="all", compression_type="zstd", max_request_size=MAX_RECORD + 64 * 1024
    )
    try:
        try:
            await producer.start()
        except KafkaError as error:
            raise await unreachable(settings) from error
        await producer.send_and_wait(
            topic,
            chunk.value,
            key=chunk.stream.key(),
            partition=0,
            headers=[
                *headers(chunk.origin, partial=chunk.partial),
                *((name, text.encode()) for name, text in told.items()),
            ],
        )
    except KafkaError as error:
        raise BusError(f"{topic} takes nothing: {error}; if it isn't there, run logsvc migrate") from error
    finally:
        await producer.stop()
