"""What a dead or a slow process has sent arrives behind the fence of the one that took over, and must not count."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from logsvc.bus.kafka import KafkaBus
from tests.chaos.writer import Writer, Writing
from tests.service.conftest import SETTINGS
from tests.support import Tally, numbered, until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.kafka_wire import Wire, wired
from tests.support.ports import free_port
from tests.support.roles import Platform, Serving

LINES = 300
CHUNK = 4000
"""Bytes of a request that has lines; a fence has less."""


@pytest.fixture(scope="module")
def proxy() -> int:
    return free_port()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, proxy: int) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kafka"), names=("PROXIED",), proxy=proxy) as started:
        yield started


@pytest.fixture
async def wire(kafka: Cluster, proxy: int) -> AsyncIterator[Wire]:
    async with wired(proxy, lambda: kafka.brokers[0].listeners["PROXIED"]) as wire:
        yield wire


@pytest.fixture
async def platform(tmp_path: Path, kafka: Cluster, clickhouse: ClickHouse) -> Platform:
    platform = Platform(tmp_path, kafka, clickhouse, SETTINGS)
    platform.settings["clickhouse.database"] = f"logsvc_test_{secrets.token_hex(4)}"
    await platform.migrate(3)
    return platform


async def on_the_bus(platform: Platform) -> Tally:
    tally = Tally()
    async with KafkaBus.open(platform.bus) as bus:
        for partition in range(bus.partitions):
            at, end = await bus.bounds(partition)
            while at < end:
                _, chunks, at = await bus.read(partition, at, 1 << 20)
                for chunk in chunks:
                    tally.feed(chunk.value)
    return tally


async def late(wire: Wire) -> None:
    """Let arrive what was stuck, and hold that the broker has refused it."""
    wire.release()
    await until(lambda: wire.answered == wire.stuck, what="the broker to answer")
    assert wire.refused == wire.stuck > 0


async def test_a_killed_collectors_lines_arrive_behind_the_fence_of_the_next(
    platform: Platform, wire: Wire, proxy: int
) -> None:
    following = platform.collect("n")
    platform.settings["kafka.bootstrap"] = f'["127.0.0.1:{proxy}"]'
    collector = platform.collect("n")
    async with collector, following:
        await collector.start()
        with Writer(platform.node("n"), Writing(lines=3000)) as writer:

            async def begun() -> bool:
                return (await on_the_bus(platform)).lines > 0

            await until(begun, what="the first lines")
            wire.hold()
            await until(lambda: wire.stuck, what="lines to be stuck")
            collector.kill()
            await following.start()
            written = (await asyncio.to_thread(writer.wait)).written

        async def complete() -> bool:
            return (await on_the_bus(platform)).complete(written)

        await until(complete, 60, "the next one to have sent it all")
        await late(wire)
    (await on_the_bus(platform)).check(written)


@pytest.mark.parametrize(
    ("least", "killed"), [(CHUNK, False), (CHUNK, True), (0, False)], ids=["slow", "killed", "slow from the start"]
)
async def test_a_post_that_is_repeated_elsewhere_while_the_first_is_under_way(
    platform: Platform, wire: Wire, proxy: int, least: int, killed: bool
) -> None:
    other = platform.serve("2")
    platform.settings["kafka.bootstrap"] = f'["127.0.0.1:{proxy}"]'
    server = platform.serve("1")
    noise = random.Random(1)
    body = b"".join(numbered("posted", seq, noise.randbytes(40).hex().encode()) + b"\n" for seq in range(LINES))
    async with server, other:
        await asyncio.gather(server.start(), other.start())
        wire.hold(least)
        first = asyncio.create_task(post(server, body))
        await until(lambda: wire.stuck, what="lines to be stuck")
        if killed:
            server.kill()
        assert await post(other, body) == (200, LINES)
        await late(wire)
        status, count = await first
        assert (status, count) in ({(0, 0)} if killed else {(503, 0), (200, 0)})
        assert await post(other, body) == (200, 0)
        if not killed:
            assert await post(server, body) == (200, 0)
    (await on_the_bus(platform)).check({"posted": LINES})


async def post(server: Serving, body: bytes) -> tuple[int, int]:
    """The answer's status, 0 where there was none, and how many lines were new."""
    headers = {"Content-Type": "text/plain", "Idempotency-Key": "one"}
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.post(server.logs("demo"), data=body, headers=headers) as answer,
        ):
            return answer.status, (await answer.json()).get("lines", 0)
    except aiohttp.ClientConnectionError:
        return 0, 0
