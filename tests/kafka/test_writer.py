"""A producer that was given up can't write any more once the next one has left its fence."""

import pytest
from aiokafka.errors import KafkaError

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_records import FENCE_HEADERS
from logsvc.bus.kafka_writer import Outgoing, _Producer
from logsvc.errors import BusError
from tests.support.bus import PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster


async def test_kafka_itself_refuses_a_producer_that_was_replaced(kafka: Cluster, monkeypatch: pytest.MonkeyPatch):
    """What is still in a socket when an append is given up would come after the fence, and be there twice."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        given_up = bus._writer._producer
        assert given_up is not None
        old = given_up._producer
        assert old is not None

        async def leave_running(_: _Producer) -> None:
            pass

        monkeypatch.setattr(_Producer, "_abandon", leave_running)
        given_up._fail("given up by the test")
        fence = await bus.fence(partition)
        with pytest.raises(KafkaError, match="ProducerFenced"):
            await old.send_and_wait(bus.topic, b"late\n", key=stream().key(), partition=partition)
        await old.stop()
        await bus.append(stream(), b"2\n")
        assert [chunk.value for chunk in (await bus.read(partition, fence, 1 << 20)).chunks] == [b"2\n"]


async def test_an_error_fails_all_that_is_in_flight_and_no_more(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        producer = bus._writer._producer
        assert producer is not None
        waiting = [bus._submit(partition, Outgoing(None, b"", FENCE_HEADERS)) for partition in range(PARTITIONS)]
        producer._fail("given up by the test")
        for future in waiting:
            with pytest.raises(BusError, match="given up by the test"):
                await future
        await bus.append(stream(), b"2\n")
