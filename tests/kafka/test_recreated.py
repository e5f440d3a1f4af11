"""A topic that was deleted and made again under the same name is refused, and nothing is written to it."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import count

import pytest
from aiokafka.protocol.produce import ProduceRequest_v7

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.kafka_by_id import Produce
from logsvc.bus.kafka_queries import LATEST, KafkaQueries
from logsvc.bus.protocol import Fetched
from logsvc.config import Kafka
from logsvc.errors import BusError, WrongTopic
from tests.support.bus import APPS, PARTITIONS, partition_of, stream
from tests.support.kafka import Cluster
from tests.support.recreated import LINES, STRANGE, delete_topic, make_anew, write_strange
from tests.support.wait import DEADLINE, until

HERE = partition_of("app")
Placed = tuple[tuple[int, int], bytes]
"""Partition and offset, and what is there."""


@pytest.fixture
async def settings(kafka: Cluster) -> Kafka:
    settings = kafka.settings(delivery_timeout=5)
    await migrate(settings, PARTITIONS)
    return settings


async def test_it_is_not_opened(settings: Kafka):
    """Kafka has forgotten the group's offsets with the topic, so only the topic's id tells."""
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
    await make_anew(settings, PARTITIONS)
    with pytest.raises(BusError, match="deleted and made again"):
        async with KafkaBus.open(settings):
            pass


class Roles:
    """A writer, a store and a tail, each with a bus of its own, until the topic is not what it was."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self.written: list[Placed] = []
        self.stored: list[Placed] = []
        self.tailed: list[Placed] = []
        self.open = 0
        self.go = asyncio.Event()
        """Whether the writer writes."""
        self.go.set()

    async def write(self) -> None:
        async with KafkaBus.open(self._settings) as bus:
            self.open += 1
            for number in count():
                await self.go.wait()
                for app in APPS:
                    cursor = await bus.append(stream(app), b"%d\n" % number)
                    self.written.append(((cursor.partition, cursor.offset), b"%d\n" % number))

    async def store(self) -> None:
        async with KafkaBus.open(self._settings) as bus:
            group = bus.group()
            self.open += 1
            while True:
                fetches = await group.fetch(1 << 20, 0.1)
                self.stored += places(fetches)
                with suppress(BusError):
                    await group.commit({fetched.partition: fetched.next for fetched in fetches})

    async def tail(self) -> None:
        async with KafkaBus.open(self._settings) as bus:
            live = bus.live()
            for partition in range(PARTITIONS):
                live.watch(partition, 0)
            self.open += 1
            while True:
                self.tailed += places(await live.fetch())

    def have(self, lines: int) -> bool:
        return min(len(self.stored), len(self.tailed)) >= lines


def places(fetches: list[Fetched]) -> list[Placed]:
    return [((chunk.partition, chunk.offset), chunk.value) for fetched in fetches for chunk in fetched.chunks]


@pytest.mark.parametrize("busy", [True, False], ids=["under load", "idle"])
async def test_who_works_has_nothing_to_do_with_it_and_says_why_it_stops(settings: Kafka, *, busy: bool):
    roles = Roles(settings)
    # Opened while there is nothing: none of them has ever heard of an end to compare with.
    working = [asyncio.create_task(work()) for work in (roles.store, roles.tail, roles.write)]
    await until(lambda: roles.open == 3 and roles.have(5 * len(APPS)), what="everyone to work")
    if not busy:
        roles.go.clear()
        await until(lambda: roles.have(len(roles.written)), what="everyone to be done")
    await make_anew(settings, PARTITIONS)
    await write_strange(settings, PARTITIONS, stream())
    roles.go.set()
    async with asyncio.timeout(DEADLINE):
        ended = await asyncio.gather(*working, return_exceptions=True)
    for error in ended:
        assert isinstance(error, WrongTopic)
        assert "it was deleted and made again, or has lost records. Nothing is read" in str(error)
    held = dict(roles.written)
    for place, value in roles.stored + roles.tailed:
        assert value != STRANGE
        assert held.setdefault(place, value) == value
    async with KafkaQueries.open(settings) as queries:
        ends = await queries.offsets(f"{settings.prefix}.1", range(PARTITIONS), LATEST)
    assert set(ends.values()) == {LINES}, "something was written"


async def test_a_leader_that_does_not_know_all_yet_is_asked_again(
    settings: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that stood still, and has not heard that others went on without it."""
    asked = KafkaQueries.offsets
    behind = 3

    async def offsets(self: KafkaQueries, topic: str, partitions: Collection[int], at: int) -> dict[int, int]:
        nonlocal behind
        found = await asked(self, topic, partitions, at)
        if at == LATEST and behind:
            behind -= 1
            return dict.fromkeys(found, 0)
        return found

    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        monkeypatch.setattr(KafkaQueries, "offsets", offsets)
        assert (await bus.bounds(HERE)).end == 1
        assert not behind
        await bus.append(stream(), b"2\n")


async def test_a_topic_of_which_the_store_has_more_is_not_stored(settings: Kafka):
    """Another Kafka, to which somebody has migrated: its first epoch is in the database already."""

    async def recorded(epoch: int) -> Mapping[int, int]:
        assert epoch == 1
        return {HERE: 7}

    async def store() -> None:
        async with KafkaBus.open(settings, recorded=recorded) as bus:
            await bus.append(stream(), STRANGE)
            await bus.group().fetch(1 << 20, DEADLINE)

    with pytest.raises(WrongTopic, match=f"ends at 1 in partition {HERE}, before what the store has of it"):
        await store()


async def test_brokers_that_know_no_ids_tell_by_the_offset(settings: Kafka, monkeypatch: pytest.MonkeyPatch):
    """Before Kafka 4.1 a batch of each partition may get into the new topic; its append fails all the same."""
    monkeypatch.setattr(Produce, "_CLASSES", (ProduceRequest_v7,))
    monkeypatch.setattr("logsvc.bus.kafka._WATCH", 600.0)

    async def write() -> None:
        async with KafkaBus.open(settings) as bus:
            for _ in range(3):
                await bus.append(stream(), b"1\n")
            await make_anew(settings, PARTITIONS)
            with pytest.raises(WrongTopic, match=f"took a record at 0 in partition {HERE}, where it had gone to 3"):
                await bus.append(stream(), b"lost\n")
            with pytest.raises(WrongTopic):
                await bus.append(stream(), b"never\n")
            await asyncio.Event().wait()

    with pytest.raises(WrongTopic, match="deleted and made again"):
        async with asyncio.timeout(DEADLINE):
            await write()


async def test_a_topic_that_is_gone_is_no_place_to_write_to(settings: Kafka):
    async with KafkaBus.open(settings) as bus:
        await bus.append(stream(), b"1\n")
        await delete_topic(settings, bus.topic)
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
