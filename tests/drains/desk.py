"""The real tiers with an engine of drains, and lines with numbers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from logsvc.config import Drains, Limits
from logsvc.drains.delivery import Backlog, Means
from logsvc.drains.engine import Engine
from logsvc.drains.local import LocalDrains
from logsvc.drains.model import Drain, DrainStatus
from logsvc.drains.notices import Announcer
from logsvc.drains.outbound import Outbound
from logsvc.formats import cri
from logsvc.model import EVERYTHING, Cursor, Filter, Selection
from logsvc.selection import Matcher
from logsvc.store.protocol import Store
from tests.support import numbered, until
from tests.support.receiver import Receiver
from tests.support.tiers import Rig, rig
from tests.support.wait import DEADLINE

FAST: dict[str, Any] = {
    "http": True,
    "allow": [ip_network("127.0.0.1/32")],
    "pause_first": 0.02,
    "pause_most": 0.1,
    "batch_seconds": 0.01,
    "connect_timeout": 60,
    "request_timeout": 60,
}
"""Pauses are short; whoever is slow on a busy machine is waited for all the same."""
TIME = b"2026-11-23T02:00:00.000000000Z"


class Desk:
    """A rig with an engine, and lines with numbers."""

    def __init__(self, made: Rig, drains: LocalDrains, means: Means) -> None:
        self.rig, self.drains, self.means = made, drains, means
        self.written = 0
        self._engine: asyncio.Task[None] | None = None

    def start(self) -> None:
        engine = Engine(self.drains, self.drains, self.means)
        self._engine = asyncio.create_task(engine.run())

    async def stop(self) -> None:
        """The engine ends wherever it is, as `kill -9` would have it: nothing is saved on the way."""
        if self._engine is not None:
            self._engine.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._engine
            self._engine = None

    async def add(
        self,
        url: str,
        wanted: Filter = EVERYTHING,
        plan: str = "",
        start: Cursor | None = None,
        *,
        ordered: bool = True,
    ) -> Drain:
        begin = start or await self.rig.timeline.end()
        drain = Drain.new(self.rig.app, url, begin, 1_795_399_200, wanted=wanted, plan=plan, ordered=ordered)
        return await self.change(drain)

    async def change(self, drain: Drain) -> Drain:
        assert await self.drains.change(lambda _: drain) == drain
        return drain

    async def write(self, lines: int, *, chunks: int = 1, size: int = 0, process: str = "web") -> None:
        """Numbered lines, in so many chunks."""
        for _ in range(chunks):
            value = b"".join(
                cri.format_line(TIME, b"stdout", numbered("w", self.written + number, b"x" * size))
                for number in range(lines)
            )
            self.written += lines
            await self.rig.bus.append(self.rig.stream(process), value)

    async def status(self, drain: Drain) -> DrainStatus | None:
        return (await self.drains.statuses([drain])).get(drain.id)

    async def has_all(self, receiver: Receiver, deadline: float = DEADLINE, *, ordered: bool = True) -> None:
        """Wait for the last line, or for each where the order is waived, and judge."""
        written, tally = {"w": self.written}, receiver.verdict.tally
        await until(lambda: tally.complete(written) and (ordered or not tally.gaps), deadline, "the last line")
        tally.check(written, ordered=ordered)

    async def told(self) -> list[bytes]:
        """What the app's log says of its drains."""
        return [cri.parse(line)[3] for each in await self.told_chunks() for line in cri.lines(each.value)]

    async def told_chunks(self) -> list[Selection]:
        end = await self.rig.timeline.end()
        last = await self.rig.timeline.last(100, Matcher(Filter(process=frozenset({"drain"}))), end)
        return last.selections


@asynccontextmanager
async def desk(store: Store, folder: Path, **settings: object) -> AsyncIterator[Desk]:
    given = Drains(**FAST | settings)
    async with rig(store) as made, LocalDrains.open(folder) as drains, Outbound.open(given) as outbound:
        announcer = Announcer(lambda: made.bus, Limits(retention={"pro": 3}).retention_of)
        means = Means(made.timeline._tiers, outbound, announcer, Backlog(given, "standard"))
        working = Desk(made, drains, means)
        working.start()
        try:
            yield working
        finally:
            await working.stop()
