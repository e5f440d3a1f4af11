"""A real bus, the real store and a router, and lines put where a test wants them: stored, on the bus, in the window."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.bus.protocol import GroupReader
from logsvc.model import AppId, Chunk, Stream
from logsvc.router import Router
from logsvc.store.protocol import Store
from logsvc.timeline import Tiers, Timeline
from tests.support.reference import Known, known
from tests.support.wait import until

_numbers = count()
FIRST = 1_795_399_200
"""2026-11-23T02:00:00Z."""


class Rig:
    """Tiers of one partition, with two apps in it: `app`, which tests look at, and a neighbour."""

    def __init__(self, bus: LocalBus, store: Store, router: Router, tenant: str | None, folder: Path) -> None:
        number = next(_numbers)
        self.app = AppId(tenant or f"tenant-{number}", f"demo-{number}")
        self.neighbour = AppId(self.app.tenant, f"neighbour-{number}")
        self.bus, self.store, self.router, self.folder = bus, store, router, folder
        self.tiers = Tiers(bus, store, router)
        self.timeline = Timeline(self.app, self.tiers)
        self.lines: list[Known] = []
        """Every line of `app`, in the order in which it was written."""
        self.group: GroupReader = bus.group()
        self.running = asyncio.create_task(router.run())

    def stream(self, process: str = "web", app: AppId | None = None) -> Stream:
        return Stream(*(app or self.app), process, f"{process}.1", "app", "uid:0")

    async def write(self, lines: int, process: str = "web", app: AppId | None = None, text: str = "m") -> None:
        """Append a chunk."""
        stream = self.stream(process, app)
        begun = len(self.lines)
        value = b"".join(
            f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(FIRST + begun + n))}.000000000Z "
            f"{'stderr' if n % 3 == 2 else 'stdout'} F {text}{begun + n}\n".encode()
            for n in range(lines)
        )
        place = await self.bus.append(stream, value)
        if app is None:
            self.lines += known(Chunk(place.epoch, place.partition, place.offset, 0, stream, value))

    async def store_upto(self, offset: int) -> None:
        """Have the store take everything in front of `offset` of partition 0, and move the watermark there."""
        at = await self.bus.watermark(0)
        chunks: list[Chunk] = []
        while at < offset:
            fetched = await self.bus.read(0, at, 1)
            chunks += fetched.chunks
            at = fetched.next
        await self.store.insert(chunks)
        await self.commit(offset)

    async def commit(self, offset: int) -> None:
        """Move the watermark, whatever the store has."""
        await self.group.commit({0: offset})

    async def end(self) -> int:
        return (await self.bus.bounds(0)).end

    async def window_is_full(self) -> None:
        """Wait until the window has everything from its first offset on."""
        end = await self.end()
        window = self.router.window(0)
        assert window is not None
        await until(lambda: window.next == end, what="the window has all there is")

    def messages(self) -> Sequence[bytes]:
        return [line.message for line in self.lines]


@asynccontextmanager
async def rig(
    store: Store,
    *,
    settings: LocalSettings | None = None,
    tenant: str | None = None,
    folder: Path | None = None,
    window_bytes: int = 1 << 26,
    linger: float = 0.0,
    heartbeat: float = 15.0,
    cold_lag: float = 3600.0,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Rig]:
    """A rig on a bus of its own, in `folder` where it is to be opened again; its router runs."""
    with TemporaryDirectory() as temporary:
        used = folder or Path(temporary)
        opened = LocalBus.open(used, partitions=1, settings=settings or LocalSettings())
        async with opened as bus:
            router = Router(
                bus, window_bytes=window_bytes, linger=linger, heartbeat=heartbeat, cold_lag=cold_lag, now=now
            )
            made = Rig(bus, store, router, tenant, used)
            try:
                yield made
            finally:
                made.running.cancel()
                await asyncio.wait([made.running])
                await router.close()
