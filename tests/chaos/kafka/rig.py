"""The service as roles under load: writers on two nodes, collectors, stores, servers, and clients that come back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Self

from logsvc.bus.epochs import Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.config import ClickHouse as Settings
from logsvc.model import EVERYTHING, AppId, Cursor
from logsvc.store.server import ServerStore
from tests.chaos.readers import FORMS, Tail, history
from tests.chaos.writer import Report, Writer, Writing
from tests.support import Tally, until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.roles import Platform, Role, Serving

CROWD = "crowd"
"""The app that many tails watch."""

LOADS = {
    "node-1": (Writing(("web.1", "worker.1"), app="shop", rate=250), Writing(("web.1",), app=CROWD, rate=40)),
    "node-2": (Writing(("web.1", "web.2"), app="blog", rate=250), Writing(("clock.1",), app="quiet", rate=40)),
}

DELIVERY = 6
"""Seconds that a collector waits for Kafka."""

SETTINGS = {"kafka.delivery_timeout": DELIVERY, "http.grace": 5, "log.level": "info"}

AWAY = "The store is away: older lines come when it is back"


@dataclass(slots=True)
class Watched:
    """One tail, and for how long it had no line."""

    app: str
    form: str
    tail: Tail
    lines: int = 0
    moved: float = 0.0
    silence: float = 0.0

    def look(self, now: float) -> None:
        if self.tail.seen.lines != self.lines:
            self.lines, self.moved = self.tail.seen.lines, now
        self.silence = max(self.silence, now - self.moved)


@dataclass(slots=True)
class Rig:
    """All of it."""

    platform: Platform
    kafka: Cluster
    clickhouse: ClickHouse
    collectors: list[Role]
    stores: list[Role]
    servers: list[Serving]
    writers: dict[str, Writer]
    watched: list[Watched]
    partitions: int
    ended: list[str] = field(default_factory=list)
    """Roles that ended by themselves, and were started again as a platform does it."""

    @property
    def roles(self) -> list[Role]:
        return [*self.collectors, *self.stores, *self.servers]

    def revive(self) -> None:
        for role in self.roles:
            if not role.running:
                self.ended.append(f"{role.folder.name}: {role.stderr.splitlines()[-1]}")
                role.launch()

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """For how long each tail has no line, until each has one again that came after the block."""
        now = time.monotonic()
        for each in self.watched:
            each.lines, each.moved, each.silence = each.tail.seen.lines, now, 0.0
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look())
            yield
            marks = [each.tail.seen.lines for each in self.watched]

            def all_go_on() -> bool:
                self.revive()
                return all(each.tail.seen.lines > mark for each, mark in zip(self.watched, marks, strict=True))

            await until(all_go_on, 60, "every tail goes on")
            looking.cancel()

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            for each in self.watched:
                each.look(now)
            # A sample now and then of how tails fare; nothing waits for it.
            await asyncio.sleep(0.02)

    def tell(self) -> None:
        """Files of which everything has arrived may be deleted."""
        for app, writer in self.writers.items():
            tail = next(each.tail for each in self.watched if each.app == app)
            for name in writer.names:
                writer.tell(name, tail.seen.tally.next(name))

    async def finish(self) -> dict[str, Report]:
        """Let writers stop, and wait until every tail has every line; what was written, by app."""
        reports = {app: await asyncio.to_thread(writer.finish) for app, writer in self.writers.items()}
        for each in self.watched:
            written = reports[each.app].written
            await until(lambda each=each, written=written: each.tail.seen.tally.complete(written), 60, "the last lines")
        return reports

    async def read_history(self, app: str) -> set[tuple[int, str]]:
        """What each server gives as all of an app's lines, by digest."""
        return {(await history(server.logs(app))).digest for server in self.servers}

    async def read_store(self, apps: list[str]) -> dict[str, Tally]:
        """What ClickHouse alone has, once all there is on Kafka is stored."""
        store = ServerStore(Settings(urls=[self.clickhouse.url]))
        tallies = {app: Tally() for app in apps}
        try:
            async with Epochs.open(self.platform.bus) as epochs:
                for number in sorted(epochs.all):
                    async with KafkaBus.open(self.platform.bus, number) as bus:
                        ends = [(await bus.bounds(partition)).end for partition in range(bus.partitions)]
                        await until(lambda bus=bus, ends=ends: _has_all(bus, ends), 60, "all is stored")
                    for app, tally in tallies.items():
                        identity = AppId("local", app)
                        partition = identity.partition(len(ends))
                        await _read(store, identity, Cursor(number, partition, 0, -1), ends[partition], tally)
        finally:
            await store.close()
        return tallies


async def _has_all(bus: KafkaBus, ends: list[int]) -> bool:
    marks = await bus.watermarks(range(bus.partitions))
    return all(marks[partition] >= end for partition, end in enumerate(ends))


async def _read(store: ServerStore, app: AppId, at: Cursor, below: int, tally: Tally) -> None:
    while True:
        page = await store.after(app, at, below, EVERYTHING, 5000)
        for chunk in page.chunks:
            tally.feed(chunk.value)
        if page.done or not page.chunks:
            return
        at = page.chunks[-1].cursor(page.chunks[-1].numbers[-1])


@asynccontextmanager
async def rig(folder: Path, partitions: int, crowd: int) -> AsyncIterator[Rig]:
    """Everything started and under load, every tail with lines. At the end all is killed that still runs."""
    async with AsyncExitStack() as stack:
        starting = cluster(folder / "kafka")
        kafka = await asyncio.to_thread(starting.__enter__)
        stack.callback(starting.__exit__, None, None, None)
        clickhouse = await stack.enter_async_context(ClickHouse(folder / "clickhouse"))
        platform = Platform(folder, kafka, clickhouse, SETTINGS)
        await platform.migrate(partitions)
        collectors = [platform.collect(node) for node in LOADS]
        stores = [platform.store(name) for name in ("1", "2")]
        servers = [platform.serve(name) for name in ("1", "2")]
        writers = {
            load.app: stack.enter_context(Writer(platform.node(node), load))
            for node, loads in LOADS.items()
            for load in loads
        }
        watched = [*_watched(servers, writers, crowd)]
        made = Rig(platform, kafka, clickhouse, collectors, stores, servers, writers, watched, partitions)
        for role in made.roles:
            await stack.enter_async_context(role)
            role.launch()
        for role in made.roles:
            await role.ready()
        tasks = await stack.enter_async_context(_Tails())
        for each in made.watched:
            tasks.start(each.tail)
        await until(lambda: all(each.tail.seen.lines for each in made.watched), 60, "every tail has a line")
        yield made


def _watched(servers: list[Serving], apps: dict[str, Writer], crowd: int) -> Iterator[Watched]:
    """One tail an app and form, and a crowd; each goes from server to server as it reconnects."""
    for number, (app, form) in enumerate((app, form) for app in apps for form in FORMS):
        yield Watched(app, form, Tail(_elsewhere(servers, app, number), form))
    for number in range(crowd):
        yield Watched(CROWD, "sse", Tail(_elsewhere(servers, CROWD, number)))


def _elsewhere(servers: list[Serving], app: str, first: int) -> Callable[[], str]:
    order = cycle(servers[first % len(servers) :] + servers[: first % len(servers)])
    return lambda: next(order).logs(app)


class _Tails:
    """Tasks that end with the block."""

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        await self._group.__aenter__()
        return self

    def start(self, tail: Tail) -> None:
        self._tasks.append(self._group.create_task(tail.run()))

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(*error)  # type: ignore[arg-type]
