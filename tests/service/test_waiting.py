"""Roles and a Kafka that is away: at the start, while an epoch begins, at the end. They wait, and say so once."""

import asyncio
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from logsvc.bus.epochs import Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.waiting import opened, waits
from tests.chaos.readers import Tail, run_while
from tests.chaos.writer import Writer, Writing
from tests.support import until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.ports import free_port
from tests.support.roles import Platform, Role
from tests.support.tcp import listening, silent

SETTINGS = {"kafka.delivery_timeout": 3, "http.grace": 5, "bus.partitions": 3, "probe.port": 0}
PROMPT = 60.0
"""Seconds: a stop that waited for Kafka would take for ever."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kafka that tests may kill."""
    with cluster(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture
def platform(tmp_path: Path, broker: Cluster, clickhouse: ClickHouse) -> Platform:
    """Not migrated yet."""
    database = f"logsvc_test_{secrets.token_hex(4)}"
    return Platform(tmp_path, broker, clickhouse, {**SETTINGS, "clickhouse.database": database})


async def probe(role: Role, path: str) -> tuple[int, str]:
    """Status and text."""
    async with aiohttp.ClientSession() as client, client.get(role.probes + path) as answer:
        return answer.status, await answer.text()


async def is_ready(role: Role) -> bool:
    return await probe(role, "/readyz") == (200, "ok\n")


def waited(role: Role) -> list[str]:
    """What it has said of waiting."""
    return [line for line in role.stderr.splitlines() if "logsvc.waiting" in line]


async def test_roles_started_while_kafka_is_away_wait_for_it(platform: Platform, broker: Cluster) -> None:
    await platform.migrate(3)
    broker.brokers[0].kill()
    collector, store, server = roles = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in roles:
            role.launch()
        for role in roles:
            await role.said("waits: Kafka can't be used")
            assert await probe(role, "/healthz") == (200, "ok\n")
            status, text = await probe(role, "/readyz")
            assert status == 503
            assert "the connection is refused" in text
            assert "logsvc_waits 1.0" in (await probe(role, "/metrics"))[1]
        await asyncio.to_thread(broker.revive, broker.brokers[0])
        for role in roles:
            await role.ready()
            await until(partial(is_ready, role))
            assert len(waited(role)) == 2, role.stderr
            assert "waits: Kafka can't be used" in waited(role)[0]
            assert waited(role)[1].endswith("goes on")
        with Writer(platform.node("n"), Writing(lines=100)) as writer:
            tail = Tail(lambda: server.logs("demo"))
            written = (await asyncio.to_thread(writer.wait)).written
            await run_while(until(lambda: tail.seen.tally.complete(written), 60, "the lines"), tail)
        for role in roles:
            assert await role.stop(PROMPT) == 0, role.stderr


async def test_a_role_that_waits_for_kafka_stops_at_once(platform: Platform) -> None:
    """For one that refuses, and for one that is silent."""
    await platform.migrate(3)
    async with listening(silent) as deaf:
        for port in (free_port(), deaf):
            platform.settings["kafka.bootstrap"] = f'["127.0.0.1:{port}"]'
            for role in (platform.collect("n"), platform.store("1"), platform.serve("1")):
                async with role:
                    role.launch()
                    await role.said("waits: Kafka can't be used")
                    assert await role.stop(PROMPT) == 0, role.stderr


async def test_settings_that_are_wrong_end_a_role_at_its_start(platform: Platform) -> None:
    await platform.migrate(3)
    platform.settings["kafka.bootstrap"] = '["no port"]'
    for role in (platform.collect("n"), platform.store("1"), platform.serve("1")):
        async with role:
            assert "kafka.bootstrap has host:port" in await role.refused(others_say=True)


async def test_an_epoch_that_begins_while_kafka_goes_away_is_waited_for(broker: Cluster) -> None:
    settings = broker.settings(delivery_timeout=5)
    await migrate(settings, 2)
    async with opened(partial(Epochs.open, settings), "the test") as epochs:
        await migrate(settings, 3)
        await until(lambda: 2 in epochs.all)
        broker.brokers[0].kill()

        async def cross() -> int:
            async with opened(partial(KafkaBus.open, settings, 2, epochs=epochs), "epoch 2") as bus:
                return bus.partitions

        crossing = asyncio.create_task(cross())
        await until(lambda: any("epoch 2 waits" in wait for wait in waits()))
        await asyncio.to_thread(broker.revive, broker.brokers[0])
        assert await crossing == 3
    assert waits() == []


async def test_lines_cross_an_epoch_that_begins_while_kafka_is_killed(platform: Platform, broker: Cluster) -> None:
    """Whatever a role was about to ask of Kafka at that moment."""
    await platform.migrate(3)
    collector, store, server = roles = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in roles:
            await role.start()
        with Writer(platform.node("n"), Writing(rate=200)) as writer:
            tail = Tail(lambda: server.logs("demo"))

            async def work() -> dict[str, int]:
                for partitions in (5, 2):
                    await until(lambda lines=tail.seen.lines: tail.seen.lines > lines + 100, 60, "lines")
                    await platform.migrate(partitions)
                    await asyncio.to_thread(broker.restart)
                await until(lambda lines=tail.seen.lines: tail.seen.lines > lines + 100, 60, "lines")
                written = (await asyncio.to_thread(writer.finish)).written
                await until(lambda: tail.seen.tally.complete(written), 60, "the last lines")
                return written

            written = await run_while(work(), tail)
        tail.seen.tally.check(written)
        for role in roles:
            assert role.starts == 1
            await until(partial(is_ready, role), 60)
            assert await role.stop(PROMPT) == 0, role.stderr


async def test_metrics_of_a_role_without_an_api(platform: Platform, broker: Cluster) -> None:
    assert broker.brokers
    await platform.migrate(3)
    async with platform.collect("n") as collector, platform.store("1") as store:
        for role, metric in ((collector, "logsvc_collect_files"), (store, "logsvc_store_lag_seconds")):
            await role.start()
            status, text = await probe(role, "/metrics")
            assert status == 200
            assert metric in text
        taken = Role(platform.folder / "taken", tuple(store.command[1:]), "", store.settings)
        taken.settings["probe.port"] = store.probes.rpartition(":")[2]
        async with taken:
            assert "can't be listened on: in use by another program" in await taken.refused()
