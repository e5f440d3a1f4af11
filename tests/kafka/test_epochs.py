"""Topics are made by `migrate` alone; another number of partitions is a new epoch, entered without losing a line."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.bus.epochs import Epoch, Epochs, Registry, control_topic
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import SEALED_BYTES, KafkaAdmin, migrate
from logsvc.errors import ConfigError, Sealed
from tests.kafka.load import Load, found
from tests.support.bus import PARTITIONS, stream
from tests.support.kafka import Cluster
from tests.support.wait import until


async def test_before_the_first_migration_it_says_what_to_do(kafka: Cluster):
    with pytest.raises(ConfigError, match="run logsvc migrate once"):
        async with KafkaBus.open(kafka.settings()):
            pass


async def test_migrate_is_safe_twice_and_at_once(kafka: Cluster):
    settings = kafka.settings()
    made = await asyncio.gather(*(migrate(settings, PARTITIONS) for _ in range(4)))
    assert len(set(map(repr, made))) == 1
    assert await migrate(settings, PARTITIONS) == made[0]
    assert (made[0].number, made[0].partitions, made[0].sealed) == (1, PARTITIONS, None)


async def test_another_number_of_partitions_is_a_new_epoch(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as old:
        cursor = await old.append(stream(), b"1\n")
        new = await migrate(settings, 2 * PARTITIONS)
        assert (new.number, new.partitions) == (2, 2 * PARTITIONS)
        await until(lambda: old.sealed is not None, what="the old bus to hear of it")
        assert old.sealed == {p: (await old.bounds(p)).end for p in range(PARTITIONS)}
        with pytest.raises(Sealed, match="epoch 2 takes lines"):
            await old.append(stream(), b"refused\n")
        assert [c.value for c in (await old.read(cursor.partition, 0, 1 << 20)).chunks] == [b"1\n"]
        end = old.sealed[cursor.partition]
        assert (await old.read(cursor.partition, end, 1)).next == end
    async with KafkaBus.open(settings) as bus, KafkaBus.open(settings, epoch=1) as old:
        assert (bus.epoch, bus.partitions, bus.sealed) == (2, 2 * PARTITIONS, None)
        assert (old.epoch, old.partitions) == (1, PARTITIONS)
        assert (await bus.append(stream(), b"2\n")).epoch == 2
    with pytest.raises(ConfigError, match="no epoch 3"):
        async with KafkaBus.open(settings, epoch=3):
            pass


async def test_migrations_that_disagree_leave_one_epoch(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    done = await asyncio.gather(migrate(settings, 2), migrate(settings, 3), return_exceptions=True)
    won = [epoch for epoch in done if isinstance(epoch, Epoch)]
    lost = [error for error in done if isinstance(error, ConfigError)]
    assert len(won) + len(lost) == 2
    async with Epochs.open(settings) as epochs:
        assert epochs.all[1].sealed is not None
        for epoch in won:
            assert epochs.all[epoch.number] == epoch or epochs.all[epoch.number].sealed is not None
        assert epochs.current.sealed is None


async def test_a_migration_that_ended_half_way_is_finished_by_the_next(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaAdmin.open(settings) as admin:
        await admin.set_config(f"{settings.prefix}.1", {"max.message.bytes": str(SEALED_BYTES)})
    async with KafkaBus.open(settings) as bus:
        with pytest.raises(Sealed):
            await append_for_ever(bus)  # what a topic is set to takes a moment to reach its leader
    assert (await migrate(settings, PARTITIONS)).number == 2


async def test_a_topic_that_logsvc_did_not_make_is_not_used(kafka: Cluster):
    settings = kafka.settings()
    async with KafkaAdmin.open(settings) as admin:
        await admin.create(f"{settings.prefix}.1", 3, {})
    with pytest.raises(ConfigError, match="logsvc did not make it"):
        await migrate(settings, PARTITIONS)


async def test_sealing_under_load_loses_nothing(kafka: Cluster, tmp_path: Path):
    """Two collectors write as fast as they can; every line acknowledged is below the recorded ends, none is behind."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as first, KafkaBus.open(settings) as second:
        loads = [Load(first, tmp_path, "node-1"), Load(second, tmp_path, "node-2")]
        tasks = [asyncio.create_task(load.until_sealed()) for load in loads]
        await until(lambda: all(load.lines > 3_000 for load in loads), what="both to write")
        await migrate(settings, 2 * PARTITIONS)
        await asyncio.gather(*tasks)
        await until(lambda: first.sealed, what="the old bus to hear of it")
        assert first.sealed == {p: (await first.bounds(p)).end for p in range(PARTITIONS)}
        tally = await found(first)
        for load in loads:
            for name, acknowledged in load.written.items():
                # One append of each writer may be on the bus without its answer.
                assert tally.next(name) - acknowledged in {0, 7}
        assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def test_an_announcement_reaches_those_who_wait(kafka: Cluster):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with Epochs.open(settings) as epochs:
        changed = asyncio.create_task(epochs.changed())
        await migrate(settings, 1)
        await changed
        await until(lambda: epochs.current.number == 2)


async def test_the_registry_survives_compaction_of_keys(kafka: Cluster):
    """The first writer has won, and no later record has its key."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with Epochs.open(settings) as epochs:
        await epochs.announce(Epoch(1, 99, 0))
        assert epochs.current.partitions == PARTITIONS
    async with KafkaAdmin.open(settings) as admin:
        assert (await admin.config(control_topic(settings.prefix)))["cleanup.policy"] == "compact"


async def append_for_ever(bus: KafkaBus) -> None:
    while True:
        await bus.append(stream(), b"1\n")


KEYS = [b"epoch/1/aa", b"epoch/1/bb", b"epoch/2/cc", b"sealed/1/dd", b"sealed/1/ee", b"drain/x", b"", None]
VALUES = [
    b'{"partitions":8,"created":1,"topic_id":"a"}',
    b'{"partitions":9,"created":2,"topic_id":""}',
    b'{"ends":[1,2]}',
    b"{}",
    b"[]",
    b"\xff",
]
RECORDS = st.tuples(st.sampled_from(KEYS), st.sampled_from([*VALUES, None]))


@given(st.lists(RECORDS, max_size=20))
def test_the_first_writer_of_an_epoch_wins_whatever_else_is_there(records: list[tuple[bytes | None, bytes | None]]):
    registry, before = Registry(), {}
    for key, value in records:
        registry.apply(key, value)
        for number, epoch in before.items():
            assert registry.all[number].partitions == epoch.partitions
            assert epoch.sealed is None or registry.all[number].sealed == epoch.sealed
        before = dict(registry.all)
