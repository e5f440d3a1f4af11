"""Drains on Kafka: the contract, and what several processes may do at once."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from logsvc.bus.epochs import Epochs
from logsvc.bus.kafka_admin import KafkaAdmin, migrate
from logsvc.bus.kafka_tables import drains_topic
from logsvc.config import Kafka
from logsvc.drains.kafka_positions import KafkaPositions
from logsvc.drains.kafka_registry import KafkaRegistry
from logsvc.drains.registry import ShareLost
from logsvc.errors import ConfigError
from tests.contract.drains import DrainsContract, Kept, Opener, adding, drain, position
from tests.support.bus import PARTITIONS
from tests.support.kafka import Cluster
from tests.support.wait import DEADLINE, until


@asynccontextmanager
async def opened(settings: Kafka):
    async with (
        Epochs.open(settings) as epochs,
        KafkaRegistry.open(settings, epochs) as registry,
        KafkaPositions.open(settings) as positions,
    ):
        yield Kept(registry, positions)


@pytest.fixture
async def settings(kafka: Cluster) -> Kafka:
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    return settings


class TestKafkaDrains(DrainsContract):
    @pytest.fixture
    def opener(self, settings: Kafka) -> Opener:
        return lambda: opened(settings)


async def test_before_the_migration_it_says_what_to_do(kafka: Cluster):
    with pytest.raises(ConfigError, match="run logsvc migrate"):
        async with KafkaPositions.open(kafka.settings()):
            pass


async def test_of_many_processes_one_makes_the_drain(settings: Kafka):
    """Five processes make the same ten drains at once: each is made once, and none is there that nobody was told of."""
    async with AsyncExitStack() as stack:
        kept = [await stack.enter_async_context(opened(settings)) for _ in range(5)]
        made = [
            (each.registry, drain(url=f"https://host-{number}.example.com")) for number in range(10) for each in kept
        ]
        changed = await asyncio.gather(*(registry.change(adding(new)) for registry, new in made))
        told = {each.id: each for each in changed if each is not None}
        assert Counter(each.url for each in told.values()) == {f"https://host-{n}.example.com": 1 for n in range(10)}
        for each in kept:
            await until(lambda each=each: each.registry.drains == told, what="everybody has heard")
    async with opened(settings) as later:
        assert later.registry.drains == told


async def test_a_change_somewhere_is_heard_of_everywhere(settings: Kafka):
    async with opened(settings) as one, opened(settings) as other:
        seen = other.registry.drains
        made = drain()
        await one.registry.change(adding(made))
        async with asyncio.timeout(DEADLINE):
            assert await other.registry.changed(seen) == {made.id: made}
        assert await other.registry.remove(made.id)
        await until(lambda: not one.registry.drains, what="the removal to be heard of")


async def test_refreshed_knows_what_another_process_has_just_changed(settings: Kafka):
    """Or what is kept of a new drain could be taken for that of a removed one."""
    async with opened(settings) as one, opened(settings) as other:
        for number in range(20):
            made = drain(url=f"https://host-{number}.example.com")
            await one.registry.change(adding(made))
            assert made.id in await other.registry.refreshed()


async def test_shares_are_divided_and_go_to_those_who_stay(settings: Kafka):
    async with opened(settings) as one:
        every = frozenset(range(one.positions.shares))
        await until(lambda: one.positions.assigned == every, what="the first has all")
        async with opened(settings) as other:
            await until(
                lambda: other.positions.assigned and one.positions.assigned | other.positions.assigned == every
                and not one.positions.assigned & other.positions.assigned,
                what="both have some",
            )  # fmt: skip
        await until(lambda: one.positions.assigned == every, what="the first has all again")


async def test_who_takes_a_share_over_goes_on_where_it_was(settings: Kafka):
    """And the one before can save no more, whatever it has not heard yet."""
    made = drain()
    async with opened(settings) as one, opened(settings) as other:
        share = made.app_id.partition(one.positions.shares)
        async with one.positions.hold(share) as first:
            for number in range(200):
                await first.save(made.id, position(number))
            async with other.positions.hold(share) as second:
                assert second.position(made.id) == position(199)
                with pytest.raises(ShareLost):
                    await first.save(made.id, position(200))
                await second.save(made.id, position(300))
    async with opened(settings) as later, later.positions.hold(share) as third:
        assert third.position(made.id) == position(300)


async def test_a_compacted_topic_says_the_same(settings: Kafka):
    """What compaction keeps is the last record of each key; so everything is told by those alone."""
    made = [drain(f"app-{number}", f"https://host-{number}.example.com") for number in range(4)]
    async with opened(settings) as kept:
        for each in made:
            await kept.registry.change(adding(each))
        await kept.registry.remove(made[0].id)
        await kept.registry.change(adding(drain(url=made[1].url)))  # refused
        before = dict(kept.registry.drains)
    async with Epochs.open(settings) as epochs:
        assert set(epochs.others) == {b"fence", *(b"drain/" + name.encode() for name in before)}
    async with KafkaAdmin.open(settings) as admin:
        assert (await admin.config(drains_topic(settings.prefix)))["cleanup.policy"] == "compact"
        assert len(await admin.describe(drains_topic(settings.prefix))) == PARTITIONS
