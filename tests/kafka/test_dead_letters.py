"""What the store refuses for good is on the dead-letter topic, whole and with the reason."""

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from logsvc.bus.dead_letters import count_aside, dead_topic, set_aside
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_client import connection
from logsvc.errors import BusError
from logsvc.model import MAX_CHUNK, AppId, Chunk, Stream
from tests.support.bus import PARTITIONS
from tests.support.kafka import Cluster
from tests.support.ports import free_port
from tests.support.store import chunk_of, stream_of

REASON = "the store refused: VIOLATED_CONSTRAINT (code 469)"


async def test_a_chunk_is_kept_whole_with_its_place_and_the_reason(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    stream = stream_of(AppId("tenant", "äpp"))
    chunks = [chunk_of(stream, 41, b"poison", b"\xff\0", partition=3, origin=b'["node","file",0,9,0,[]]')]
    chunks.append(Chunk(2, 4, 42, 1_795_399_200_000, stream, b"x" * (MAX_CHUNK - 1) + b"\n", partial=True))
    for chunk in chunks:
        await set_aside(settings, chunk, REASON)

    place = TopicPartition(dead_topic(settings.prefix), 0)
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
    await consumer.start()
    consumer.assign([place])
    consumer.seek(place, 0)
    records = [await consumer.getone() for _ in chunks]
    await consumer.stop()
    assert [Stream.of(record.key) for record in records] == [stream, stream]
    assert [record.value for record in records] == [chunk.value for chunk in chunks]
    said = [dict(record.headers) for record in records]
    assert [told["reason"].decode() for told in said] == [REASON] * 2
    assert [told["place"] for told in said] == [b"1.3.41", b"2.4.42"]
    assert said[0]["appended"] == b"1795399200000"
    assert said[0]["o"] == chunks[0].origin
    assert "p" in said[1]
    assert await count_aside(settings, stream.app_id) == 2
    assert await count_aside(settings, AppId("tenant", "other")) == 0


async def test_brokers_that_are_away_are_an_error_and_nothing_is_dropped(kafka: Cluster):
    settings = kafka.settings(bootstrap=[f"127.0.0.1:{free_port()}"], delivery_timeout=2)
    with pytest.raises(BusError, match="Kafka can't be used"):
        await set_aside(settings, chunk_of(stream_of(AppId("tenant", "app")), 1, b"x"), REASON)
