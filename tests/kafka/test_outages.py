"""Brokers that die, stop or lose their lead under load: every line is on the bus once and in order."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.errors import BusError
from tests.kafka.load import Load, feed, found, loading
from tests.support.bus import PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster, cluster
from tests.support.ports import free_port
from tests.support.tally import Tally
from tests.support.wait import DEADLINE, until

DELIVERY = 5.0
"""Seconds until an append counts as failed: short, so that a stopped broker is an outage soon."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kafka that tests may kill."""
    with cluster(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture
def given_up(tmp_path: Path) -> Iterator[Cluster]:
    """A broker that its controller gives up before it hears from it again, so that it comes and goes each second."""
    with cluster(tmp_path, extra="broker.session.timeout.ms=300\n") as started:
        yield started


async def more(load: Load, lines: int) -> None:
    """Wait until so many further lines are acknowledged."""
    goal = load.lines + lines
    await until(lambda: load.lines >= goal, 60, "further lines to be acknowledged")


async def follow(bus: KafkaBus, tally: Tally) -> None:
    """A tail of everything, which must not notice more than a pause."""
    reader = bus.live()
    for partition in range(bus.partitions):
        reader.watch(partition, 0)
    while True:
        for fetched in await reader.fetch():
            feed(tally, fetched.chunks)


async def test_killed_brokers_lose_double_and_misorder_nothing(broker: Cluster, tmp_path: Path):
    settings = broker.settings(delivery_timeout=30)
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus, asyncio.TaskGroup() as tasks:
        load, tail = Load(bus, tmp_path), Tally()
        following = tasks.create_task(follow(bus, tail))
        async with loading(load):
            for _ in range(2):
                await more(load, 5_000)
                await asyncio.to_thread(broker.restart)
            await more(load, 5_000)
        (await found(bus)).check(load.written)
        await until(lambda: tail.complete(load.written), what="the tail to have it all")
        following.cancel()
    tail.check(load.written)


async def test_brokers_that_have_all_moved_are_found_where_the_settings_say(broker: Cluster):
    (only,) = broker.brokers
    place = free_port()
    settings = broker.settings(delivery_timeout=DELIVERY)
    settings.bootstrap.append(f"127.0.0.1:{place}")
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        tail, group = bus.live(), bus.group()
        tail.watch(partition_of("app"), 0)

        async def check(line: bytes) -> None:
            """Have both read it next."""
            for fetch in (tail.fetch, partial(group.fetch, 1 << 20, DEADLINE)):
                lines: list[bytes] = []
                while not lines:  # a fence comes without any
                    lines = [chunk.value for fetched in await fetch() for chunk in fetched.chunks]
                assert lines == [line]

        async def fenced() -> bool:
            with suppress(BusError):
                return await bus.fence(partition_of("app")) > 0
            return False

        async with asyncio.timeout(DEADLINE * 2):
            await bus.append(stream(), b"before\n")
            await check(b"before\n")
            only.kill()
            only.move(place)
            await asyncio.to_thread(broker.revive, only)
            await until(fenced, what="the broker to be found")
            await bus.append(stream(), b"after\n")
            await check(b"after\n")


async def test_a_connection_that_is_lost_is_not_used_though_nobody_has_said_so_yet(broker: Cluster):
    async with KafkaQueries.open(broker.settings()) as queries:
        node = queries.client.get_random_node()
        lost = await queries.client._get_conn(node)
        lost._writer.transport.abort()
        assert lost.connected()
        assert await queries.client._get_conn(node) is not lost
        assert await queries.client.force_metadata_update()


async def test_a_broker_that_stops_for_longer_than_an_append_may_take(broker: Cluster, tmp_path: Path):
    """What the stopped broker has in its sockets comes after the appends were given up; it must not count then."""
    settings = broker.settings(delivery_timeout=DELIVERY)
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        load = Load(bus, tmp_path)
        async with loading(load):
            for _ in range(2):
                await more(load, 5_000)
                recoveries = load.recoveries
                broker.brokers[0].pause()
                await until(lambda: load.recoveries > recoveries, what="the appends to be given up")  # noqa: B023
                broker.brokers[0].resume()
            await more(load, 5_000)
        (await found(bus)).check(load.written)
    assert load.recoveries >= 2


async def test_an_append_is_given_up_in_time_and_the_next_one_works(broker: Cluster):
    settings = broker.settings(delivery_timeout=DELIVERY)
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"before\n")
        broker.brokers[0].pause()
        with pytest.raises(BusError, match="did not acknowledge within 5 s"):
            async with asyncio.timeout(DEADLINE):
                await bus.append(stream(), b"lost or not\n")
        broker.brokers[0].resume()
        fence = await bus.fence(partition_of("app"))
        after = await bus.append(stream(), b"after\n")
        assert after.offset > fence


async def test_a_migration_waits_for_brokers_that_nobody_is_told_of(given_up: Cluster):
    settings = given_up.settings(delivery_timeout=30)
    conn = await create_conn("127.0.0.1", given_up.brokers[0].listeners["PLAINTEXT"])
    for _ in range(3):
        while (await conn.send(MetadataRequest([]))).brokers:
            pass
        epoch = await migrate(settings, PARTITIONS)
        assert epoch.partitions == PARTITIONS
    await conn.close()


async def test_what_was_given_up_never_comes_after_the_fence(broker: Cluster):
    """The old producer's batch waits in the broker's socket while the new one writes its fence."""
    settings = broker.settings(delivery_timeout=DELIVERY)
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus:
        for _ in range(3):
            await bus.append(stream(), b"before\n")
            broker.brokers[0].pause()
            with pytest.raises(BusError):
                await bus.append(stream(), b"given up\n")
            broker.brokers[0].resume()
            fence = await bus.fence(partition)
            await bus.append(stream(), b"after\n")
            await bus.append(stream(), b"after\n")
            got = await bus.read(partition, fence, 1 << 20)
            assert [chunk.value for chunk in got.chunks] == [b"after\n", b"after\n"]


async def test_the_stores_reader_waits_out_an_outage_and_commits_what_it_owes(broker: Cluster):
    settings = broker.settings(delivery_timeout=DELIVERY)
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus:
        group = bus.group()
        await bus.append(stream(), b"1\n")
        (fetched,) = await group.fetch(1 << 20, DEADLINE)
        broker.brokers[0].pause()
        with pytest.raises(BusError, match="does not take the store's progress"):
            await group.commit({partition: fetched.next})
        assert await group.fetch(1 << 20, 0.1) == []
        broker.brokers[0].resume()

        async def caught_up() -> bool:
            await group.fetch(1 << 20, 0.1)
            return await bus.watermark(partition) == fetched.next

        await until(caught_up)


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kafka3"), brokers=3) as started:
        yield started


async def test_one_of_three_brokers_is_killed(three: Cluster, tmp_path: Path):
    """Each record is on two brokers before it counts, so any one of them may die at any moment, leader or not."""
    settings = three.settings(delivery_timeout=30)
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus, asyncio.TaskGroup() as tasks:
        load, tail = Load(bus, tmp_path), Tally()
        following = tasks.create_task(follow(bus, tail))
        async with loading(load):
            await more(load, 2_000)
            three.brokers[0].kill()  # it leads a third of the partitions
            await more(load, 2_000)
            await asyncio.to_thread(three.revive, three.brokers[0])
            await until(lambda: three.is_in_sync(settings, f"{settings.prefix}.1"), 60, "the broker to catch up")
            await more(load, 2_000)
        (await found(bus)).check(load.written)
        await until(lambda: tail.complete(load.written), what="the tail to have it all")
        following.cancel()
    tail.check(load.written)
