"""Members of the store's group share the partitions; when these move, every line is still taken once."""

import asyncio
import logging
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin, migrate
from logsvc.bus.kafka_group import KafkaGroup
from tests.kafka.load import Load, loading
from tests.support.bus import APPS, PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster
from tests.support.tally import Tally
from tests.support.wait import DEADLINE, until


class Member:
    """A store in miniature: what it has committed is kept, what it has not may come again.

    It commits while it fetches the next, so also while partitions move.
    """

    def __init__(self, bus: KafkaBus, stored: dict[int, dict[int, bytes]]) -> None:
        self.reader = bus.group()
        self.partitions: set[int] = set()
        self._stored = stored

    async def run(self) -> None:
        done: dict[int, int] = {}
        while True:
            fetches = await self.reader.fetch(20_000, 0.1)
            await self.reader.commit(done)
            for fetched in fetches:
                self.partitions.add(fetched.partition)
                self._stored[fetched.partition].update((chunk.offset, chunk.value) for chunk in fetched.chunks)
            done = {fetched.partition: fetched.next for fetched in fetches}

    def join_again(self) -> None:
        """As after an answer of the broker that says so. It then waits for a heartbeat of each other member."""
        assert self.reader._consumer
        self.reader._consumer._coordinator.request_rejoin()


async def test_members_that_come_and_go_under_load_take_every_line_in_order(kafka: Cluster, tmp_path: Path):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    stored: dict[int, dict[int, bytes]] = defaultdict(dict)
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings) as other, asyncio.TaskGroup() as tasks:
        load = Load(bus, tmp_path)
        first, second = Member(bus, stored), Member(other, stored)
        async with loading(load):
            one = tasks.create_task(first.run())
            await until(lambda: len(first.partitions) == PARTITIONS, what="the first to hold them all")
            two = tasks.create_task(second.run())
            await until(lambda: len(second.partitions) >= PARTITIONS // 2, what="the second to get its half")
            two.cancel()
            await asyncio.wait([two])
            await second.reader.close()
            goal = load.lines + 3_000
            await until(lambda: load.lines >= goal)
            third = Member(other, stored)
            three = tasks.create_task(third.run())
            await until(lambda: third.partitions)
        ends = {p: (await bus.bounds(p)).end for p in range(PARTITIONS)}
        for partition, end in ends.items():
            await until(lambda p=partition, e=end: reached(bus, p, e), what="the watermark to get to the end")
        one.cancel()
        three.cancel()
    tally = Tally()
    for chunks in stored.values():
        for offset in sorted(chunks):
            tally.feed(chunks[offset])
    tally.check(load.written)


async def test_a_member_makes_no_commit_while_it_joins_again(
    kafka: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    stored: dict[int, dict[int, bytes]] = defaultdict(dict)
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings) as other, asyncio.TaskGroup() as tasks:
        load = Load(bus, tmp_path)
        members = Member(bus, stored), Member(other, stored)
        async with loading(load):
            working = [tasks.create_task(member.run()) for member in members]
            await until(lambda: all(member.partitions for member in members), what="both to share")
            for member in members:  # the one that leads the group has all of them join again
                member.join_again()
            goal = load.lines + 10_000
            await until(lambda: load.lines >= goal)
        for partition in range(PARTITIONS):
            end = (await bus.bounds(partition)).end
            await until(lambda p=partition, e=end: reached(bus, p, e), what="the watermark to get to the end")
        for task in working:
            task.cancel()
    assert "OffsetCommit failed" not in caplog.text, "who is refused joins again, and so for ever"


async def reached(bus: KafkaBus, partition: int, end: int) -> bool:
    return await bus.watermark(partition) == end


async def held(reader: KafkaGroup, partitions: int) -> set[int]:
    """Fetch until a member holds so many partitions."""
    async with asyncio.timeout(DEADLINE):
        while True:
            await reader.fetch(1 << 20, 0.05)
            places = reader._consumer.assignment() if reader._consumer else ()
            if len(places) == partitions:
                return {place.partition for place in places}


async def test_a_commit_of_a_partition_that_has_moved_is_left_to_its_holder(
    kafka: Cluster, caplog: pytest.LogCaptureFixture
):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings) as other:
        cursors = {partition_of(app): await bus.append(stream(app), b"1\n") for app in APPS}
        first, second = bus.group(), other.group()
        await held(first, PARTITIONS)
        async with asyncio.TaskGroup() as tasks:
            kept = tasks.create_task(held(first, PARTITIONS // 2))
            tasks.create_task(held(second, PARTITIONS // 2))
        with caplog.at_level(logging.INFO, "logsvc"):
            await first.commit({partition: cursor.offset + 1 for partition, cursor in cursors.items()})
        assert caplog.text.count("is left to the member that holds it now") == PARTITIONS // 2
        marks = await other.watermarks(range(PARTITIONS))
        assert {partition for partition, mark in marks.items() if mark == 1} == kept.result()


async def test_watermarks_never_go_back(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings) as other:
        for number in range(10):
            await bus.append(stream(), b"%d\n" % number)
        group = bus.group()
        while sum([len(fetched.chunks) for fetched in await group.fetch(1 << 20, DEADLINE)]) < 10:
            pass
        await group.commit({partition: 8})
        await group.commit({partition: 3})
        assert await bus.watermark(partition) == 8
        assert await other.watermark(partition) == 8


async def test_what_retention_took_before_the_store_came_is_passed_over(
    kafka: Cluster, caplog: pytest.LogCaptureFixture
):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    partition = partition_of("app")
    async with KafkaBus.open(settings) as bus:
        for number in range(10):
            await bus.append(stream(), b"%d\n" % number)
        group = bus.group()
        await group.fetch(1 << 20, DEADLINE)
        await group.commit({partition: 2})
        await group.close()
        async with KafkaAdmin.open(settings) as admin:
            await admin._client.delete_records({TopicPartition(bus.topic, partition): RecordsToDelete(6)})
        group = bus.group()
        got = []
        async with asyncio.timeout(DEADLINE):
            while len(got) < 4:
                got += [chunk.value for f in await group.fetch(1 << 20, DEADLINE) for chunk in f.chunks]
        assert got == [b"6\n", b"7\n", b"8\n", b"9\n"]
        assert f"no longer has offsets 2 to 5 of partition {partition}" in caplog.text
        assert (await bus.bounds(partition)).start == 6
        await until(lambda: reached(bus, partition, 6), what="the watermark to be the log's start")
