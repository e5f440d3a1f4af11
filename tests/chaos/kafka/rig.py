"""The service as roles under load: writers on two nodes, collectors, stores, servers, and clients that come back."""

import asyncio
import math
import random
import time
from collections import Counter, defaultdict
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
from tests.chaos.kafka.drained import Drained, DrainReceiver
from tests.chaos.kafka.form import CROWD, DRAINED, NODES, Form
from tests.chaos.proxy import Proxy, cutting
from tests.chaos.readers import FORMS, Live, Seen, Tail, history
from tests.chaos.writer import Node
from tests.support import Tally, until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Broker, Cluster, cluster
from tests.support.roles import Platform, Role, Serving

PARTITIONS = 6
BEHIND = 120.0
"""Seconds within which all that was written has to be everywhere; on a machine that has much else to do."""
LOOK, ASK = 0.05, 0.5
"""Seconds between two looks at some hundred tails, and between two questions to Kafka: all of it is on one machine."""
DRAINS = {"drains.http": True, "drains.allow": '["127.0.0.1/32"]', "drains.pause_most": 2}
CUT = 20_000
"""Most bytes until a connection is cut."""

Written = dict[str, dict[str, int]]
"""Lines by app and writer."""


class Watched(Live):
    """One tail."""

    def __init__(self, app: str, form: str, tail: Tail) -> None:
        super().__init__(tail.seen)
        self.app, self.form, self.tail = app, form, tail

    @property
    def is_whole(self) -> bool:
        """Whether its lines are to be those of history, byte by byte."""
        return self.app != CROWD and self.form != "text"

    @property
    def told(self) -> str:
        """How it fares, for who looks for the reason."""
        tries = f"{self.tail.connections} connections, {self.tail.refused} refused"
        return f"{self.app} as {self.form}, {self.behind:.0f} s behind, {tries}"


@dataclass(slots=True)
class Rig:
    """All of it."""

    form: Form
    platform: Platform
    kafka: Cluster
    clickhouse: ClickHouse
    collectors: list[Role]
    stores: list[Role]
    servers: list[Serving]
    drains: list[Role]
    receiver: DrainReceiver
    nodes: list[Node]
    wire: Proxy
    """Some tails go through it."""
    watched: list[Watched]
    epoch: int = 1
    partitions: int = PARTITIONS
    since: float = math.inf
    """Unix seconds: lines that are written from then on have to come again."""
    ended: list[str] = field(default_factory=list)
    """Roles that ended by themselves, and were started again as a platform does it."""

    @property
    def roles(self) -> list[Role]:
        return [*self.collectors, *self.stores, *self.servers, *self.drains]

    @property
    def drained(self) -> list[Drained]:
        return [*self.receiver.drained.values()]

    @property
    def following(self) -> list[Live]:
        """All to whom lines come."""
        return [*self.watched, *self.drained]

    async def start(self) -> None:
        """All roles, and drains before there is a line, so that each comes."""
        others = [role for role in self.roles if role not in self.collectors]
        for role in others:
            role.launch()
        for role in others:
            await role.ready()
        for each in self.drained:
            await self.servers[0].add_drain(each.app, f"{self.receiver.url}/{each.app}", ordered=each.ordered)
        for role in self.collectors:
            role.launch()
        for role in self.collectors:
            await role.ready()

    def revive(self) -> None:
        for role in self.roles:
            if not role.running:
                self.ended.append(f"{role.folder.name}: {role.stderr.splitlines()[-1]}")
                role.launch()

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Look at how tails and drains fare with a fault, until each of them is live again."""
        self.since = math.inf
        for each in self.following:
            each.live, each.seen.latency = None, 0.0
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look())
            yield
            if self.since == math.inf:
                self.over()
            await self.live()
            looking.cancel()

    def over(self) -> None:
        """A fault is over, or a role was killed that others stand in for: from now on lines have to come."""
        self.since = time.time()

    async def live(self) -> None:
        """Wait until each tail and each drain has a line that was written after `over`."""

        def all_go_on() -> bool:
            self.revive()
            return all(each.live for each in self.following)

        try:
            await until(all_go_on, BEHIND, "every tail and drain goes on", LOOK)
        except AssertionError as error:
            waiting = Counter(each.told for each in self.following if not each.live)
            raise AssertionError(f"{error}; waiting: {dict(waiting)}") from error

    @property
    def recovery(self) -> float:
        """Seconds from `over` until the last tail was live."""
        return (self.last.live or math.inf) - self.since

    @property
    def drains_recovery(self) -> float:
        """Seconds from `over` until every drain had a line."""
        return max(each.live or math.inf for each in self.drained) - self.since

    @property
    def last(self) -> Watched:
        """The tail that was live last."""
        return max(self.watched, key=lambda each: each.live or math.inf)

    @property
    def latency(self) -> float:
        return max(each.seen.latency for each in self.watched)

    async def _look(self) -> None:
        while True:
            for each in self.following:
                each.look(self.since)
            # A sample now and then of how they fare; nothing waits for it.
            await asyncio.sleep(LOOK)

    async def leader(self) -> Broker:
        """The broker through which the lines of the crowd go."""
        partition = AppId("local", CROWD).partition(self.partitions)
        return await self.kafka.leader(self.platform.bus, self.topic, partition)

    async def writable(self) -> None:
        """Wait until Kafka takes lines again, with leaders in place of those that are gone."""
        await until(lambda: self.kafka.takes_writes(self.platform.bus, self.topic), BEHIND, "Kafka to take lines", ASK)

    async def in_sync(self) -> None:
        """Wait until each broker has everything again: then the next one may fail."""
        await until(
            lambda: self.kafka.is_in_sync(self.platform.bus, self.topic), BEHIND, "brokers to have caught up", ASK
        )

    @property
    def topic(self) -> str:
        return f"{self.platform.bus.prefix}.{self.epoch}"

    async def migrate(self, partitions: int) -> None:
        await self.platform.migrate(partitions)
        self.epoch, self.partitions = self.epoch + 1, partitions

    def tell(self) -> None:
        """Files of which everything has arrived may be deleted."""
        tallies = {each.app: each.tail.seen.tally for each in self.watched}
        for node in self.nodes:
            for writing in node.writings:
                for name in writing.writers:
                    node.tell(writing.app, name, tallies[writing.app].next(name))

    async def finish(self) -> Written:
        """Let writers stop, and wait until every tail and every drain has every line; what was written."""
        written: Written = defaultdict(dict)
        for node in self.nodes:
            for app, lines in (await asyncio.to_thread(node.finish)).items():
                written[app] |= lines
        for each in self.watched:
            all_came = lambda each=each: each.tail.seen.tally.complete(written[each.app])  # noqa: E731 - for one wait
            await until(all_came, BEHIND, "the last lines")
        for drained in self.drained:
            they_came = lambda drained=drained: drained.complete(written[drained.app])  # noqa: E731 - as above
            await until(they_came, BEHIND, "the last lines of a drain")
        return written

    async def read_histories(self, app: str) -> list[Seen]:
        """What each server gives as all of an app's lines."""
        return [await history(server.logs(app)) for server in self.servers]

    async def read_store(self, apps: list[str]) -> dict[str, Tally]:
        """What ClickHouse alone has, once all there is on Kafka is stored."""
        store = ServerStore(Settings(urls=[self.clickhouse.url]))
        tallies = {app: Tally() for app in apps}
        try:
            async with Epochs.open(self.platform.bus) as epochs:
                for number in sorted(epochs.all):
                    async with KafkaBus.open(self.platform.bus, number) as bus:
                        ends = [(await bus.bounds(partition)).end for partition in range(bus.partitions)]
                        await until(lambda bus=bus, ends=ends: _has_all(bus, ends), BEHIND, "all is stored")
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
async def rig(folder: Path, form: Form, rng: random.Random) -> AsyncIterator[Rig]:
    """Everything started and under load, every tail with lines. At the end all is killed that still runs."""
    async with AsyncExitStack() as stack:
        starting = cluster(folder / "kafka", form.brokers)
        kafka = await asyncio.to_thread(starting.__enter__)
        stack.callback(starting.__exit__, None, None, None)
        clickhouse = await stack.enter_async_context(ClickHouse(folder / "clickhouse", can_be_slow=True))
        settings = {"kafka.delivery_timeout": form.delivery, "log.level": "info", **DRAINS}
        platform = Platform(folder, kafka, clickhouse, settings)
        await platform.migrate(PARTITIONS)
        servers = [platform.serve(name) for name in ("1", "2")]
        wire = await stack.enter_async_context(cutting(_ports(servers), rng, CUT))
        wire.cutting = False
        receiver = DrainReceiver(DRAINED, DRAINED[-1])
        stack.enter_context(receiver.apart())
        made = Rig(
            form=form,
            platform=platform,
            kafka=kafka,
            clickhouse=clickhouse,
            collectors=[platform.collect(node) for node in NODES],
            stores=[platform.store(name) for name in ("1", "2")],
            servers=servers,
            drains=[platform.drain(name) for name in ("1", "2")],
            receiver=receiver,
            nodes=[stack.enter_context(Node(platform.node(node), [*form.writings(node)])) for node in NODES],
            wire=wire,
            watched=[*_watched(form, servers, wire)],
        )
        for role in made.roles:
            await stack.enter_async_context(role)
        await made.start()
        tasks = await stack.enter_async_context(_Tails())
        for each in made.watched:
            tasks.start(each.tail)
        await until(lambda: all(each.seen.lines for each in made.following), BEHIND, "every tail and drain has a line")
        yield made


def _watched(form: Form, servers: list[Serving], wire: Proxy) -> Iterator[Watched]:
    """A tail of each app, all forms of one app, the same through a wire that is cut, and a crowd that comes later.

    Each goes from server to server as it reconnects.
    """
    for number, app in enumerate(form.apps):
        kind = FORMS[number % len(FORMS)]
        yield Watched(app, kind, Tail(_elsewhere(servers, app, number), kind))
    for number, kind in enumerate(FORMS):
        yield Watched(form.apps[1], kind, Tail(_elsewhere(servers, form.apps[1], number), kind))
        yield Watched(form.apps[2], kind, Tail(lambda: _through(wire, form.apps[2]), kind))
    for number in range(form.crowd):
        yield Watched(CROWD, "sse", Tail(_elsewhere(servers, CROWD, number), from_start=False))


def _elsewhere(servers: list[Serving], app: str, first: int) -> Callable[[], str]:
    order = cycle(servers[first % len(servers) :] + servers[: first % len(servers)])
    return lambda: next(order).logs(app)


def _ports(servers: list[Serving]) -> Callable[[], int]:
    order = cycle(servers)
    return lambda: next(order).port


def _through(wire: Proxy, app: str) -> str:
    return f"http://127.0.0.1:{wire.port}/v1/apps/{app}/logs"


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
