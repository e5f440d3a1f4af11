"""A producer that was given up can't write any more once the next one has left its fence."""

import pytest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_batch import Outgoing
from logsvc.bus.kafka_records import FENCE_HEADERS
from logsvc.errors import BusError
from tests.support.bus import PARTITIONS, partition_of, read_all, stream, values
from tests.support.kafka import Cluster


async def test_kafka_itself_refuses_a_producer_that_was_replaced(kafka: Cluster):
    """What is still in a socket when an append is given up would come after the fence, and be there twice."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings, writer="one") as bus, KafkaBus.open(settings, writer="one") as other:
        await bus.append(stream(), b"1\n")
        fence = await other.fence(partition)
        with pytest.raises(BusError, match="another process writes as"):
            await bus.append(stream(), b"late\n")
        await other.append(stream(), b"2\n")
        assert values(await read_all(other, partition)) == [b"1\n", b"2\n"]
        assert await bus.fence(partition) > fence  # which takes the name back


async def test_who_has_another_name_is_left_alone(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings) as other:
        mine, theirs = bus.named("a post"), other.named("another post")
        for appender in (bus, other, mine, theirs):
            await appender.append(stream(), b"1\n")
            await appender.fence(partition)
        for appender in (bus, other, mine, theirs):
            await appender.append(stream(), b"2\n")
        taken_over = other.named("a post")
        await taken_over.fence(partition)
        with pytest.raises(BusError, match="another process writes as"):
            await mine.append(stream(), b"late\n")
        for appender in (bus, other, taken_over, theirs):
            await appender.append(stream(), b"3\n")
        assert b"late\n" not in values(await read_all(bus, partition))


async def test_an_error_fails_all_that_is_in_flight_and_no_more(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        writer = bus._writer
        waiting = [writer.submit(partition, Outgoing(None, b"", FENCE_HEADERS)) for partition in range(PARTITIONS)]
        writer.refuse(BusError("given up by the test"))
        for future in waiting:
            with pytest.raises(BusError, match="given up by the test"):
                await future
        await bus.append(stream(), b"2\n")
