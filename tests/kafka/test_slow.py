"""A broker that is slow with every answer makes everything late, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.bus.protocol import Fetched
from tests.kafka.load import feed
from tests.support.bus import APPS, PARTITIONS, stream
from tests.support.kafka import Cluster, cluster
from tests.support.kafka_wire import Wire, wired
from tests.support.ports import free_port
from tests.support.tally import Tally, numbered
from tests.support.wait import until

LINES = 10
LATE = 0.2
BEFORE = 3
"""Lines that come while it is still fast."""


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


async def append(bus: KafkaBus, app: str, slow: asyncio.Event, fast: asyncio.Semaphore) -> None:
    for number in range(LINES):
        await bus.append(stream(app), numbered(app, number) + b"\n")
        if number + 1 == BEFORE:
            fast.release()
            await slow.wait()


async def tail(bus: KafkaBus, tally: Tally) -> None:
    live = bus.live()
    for partition in range(bus.partitions):
        live.watch(partition, 0)
    while True:
        take(tally, await live.fetch())


async def store(bus: KafkaBus, tally: Tally) -> None:
    group = bus.group()
    while True:
        fetches = await group.fetch(1 << 20, 0.5)
        take(tally, fetches)
        await group.commit({fetched.partition: fetched.next for fetched in fetches})


def take(tally: Tally, fetches: list[Fetched]) -> None:
    for fetched in fetches:
        feed(tally, fetched.chunks)


async def test_appends_tails_and_stores_go_on(kafka: Cluster, wire: Wire, proxy: int):
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    settings.bootstrap[:] = [f"127.0.0.1:{proxy}"]
    tailed, stored, written = Tally(), Tally(), dict.fromkeys(APPS, LINES)
    slow, fast = asyncio.Event(), asyncio.Semaphore(0)
    async with AsyncExitStack() as stack:
        # Each has a client of its own, as roles have.
        writer, reader, storing = [await stack.enter_async_context(KafkaBus.open(settings)) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(tail(reader, tailed)), tasks.create_task(store(storing, stored))]
            for app in APPS:
                tasks.create_task(append(writer, app, slow, fast))
            for _ in APPS:
                await fast.acquire()
            wire.delay = LATE
            slow.set()
            for tally in (tailed, stored):
                await until(partial(tally.complete, written), 120, "every line")

            async def committed() -> bool:
                return sum((await storing.watermarks(range(PARTITIONS))).values()) == len(APPS) * LINES

            await until(committed, 60, "every line to be committed")
            for task in reading:
                task.cancel()
        wire.delay = 0.0
    tailed.check(written)
    stored.check(written)
