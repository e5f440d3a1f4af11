"""A topic that was deleted and made again under the same name is refused, and nothing is written to it."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin, migrate, topic_settings
from logsvc.bus.kafka_client import connection
from logsvc.config import Kafka
from logsvc.errors import BusError
from tests.support.bus import PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster
from tests.support.wait import DEADLINE, until

HERE = partition_of("app")


async def make_anew(settings: Kafka) -> None:
    """Delete the topic of epoch 1 and make it again, as an operator might by mistake."""
    name = f"{settings.prefix}.1"
    client = AIOKafkaAdminClient(**connection(settings))
    await client.start()
    await client.delete_topics([name])
    await client.close()
    async with KafkaAdmin.open(settings) as admin:

        async def made() -> bool:
            return await admin.create(name, PARTITIONS, topic_settings(settings))

        await until(lambda: gone(admin, name), what="the topic to be gone")
        await until(made)

        async def led() -> bool:
            found = await admin.describe(name)
            return len(found) == PARTITIONS and all(partition["leader"] >= 0 for partition in found)

        await until(led)


async def gone(admin: KafkaAdmin, name: str) -> bool:
    return not await admin.describe(name)


@pytest.fixture
async def settings(kafka: Cluster) -> Kafka:
    settings = kafka.settings(delivery_timeout=5)
    await migrate(settings, PARTITIONS)
    return settings


async def test_it_is_not_opened(settings: Kafka):
    """Kafka has forgotten the group's offsets with the topic, so only the topic's id tells."""
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
    await make_anew(settings)
    with pytest.raises(BusError, match="deleted and made again"):
        async with KafkaBus.open(settings):
            pass


async def test_a_bus_that_is_open_reads_and_writes_it_no_more(settings: Kafka):
    async with KafkaBus.open(settings) as bus:
        for _ in range(3):
            await bus.append(stream(), b"1\n")
        live = bus.live()
        live.watch(HERE, 0)
        await live.fetch()
        fetching = asyncio.create_task(live.fetch())
        await make_anew(settings)

        with pytest.raises(BusError, match="deleted and made again"):
            await bus.bounds(HERE)
        with pytest.raises(BusError, match="deleted and made again"):
            await bus.append(stream(), b"never\n")
        with pytest.raises(BusError, match="deleted and made again"):
            async with asyncio.timeout(DEADLINE):
                await fetching
        ends = await bus.queries.offsets(bus.topic, range(PARTITIONS), -1)
        assert set(ends.values()) == {0}, "something was written"


async def test_a_topic_that_is_gone_is_no_place_to_write_to(settings: Kafka):
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        client = AIOKafkaAdminClient(**connection(settings))
        await client.start()
        await client.delete_topics([bus.topic])
        await client.close()
        with pytest.raises(BusError):
            await append_for_ever(bus)


async def append_for_ever(bus: KafkaBus) -> None:
    while True:
        await bus.append(stream(), b"2\n")


async def test_a_topic_that_grows_while_its_end_is_asked_for_is_the_same(settings: Kafka):
    """An answer on its way is older than what was written and read meanwhile."""
    async with KafkaBus.open(settings) as bus:
        asked = asyncio.Event()

        async def append() -> None:
            while not asked.is_set():
                await bus.append(stream(), b"1\n")

        async def ask() -> None:
            for _ in range(200):
                await bus.bounds(HERE)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(append())
            async with asyncio.TaskGroup() as asking:
                for _ in range(8):
                    asking.create_task(ask())
            asked.set()
