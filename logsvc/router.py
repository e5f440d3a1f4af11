"""Which partitions are read, and where what was read goes.

A partition is read only while somebody watches one of its apps: the first watcher starts it at the watermark, or just
before it where that watcher goes on; the last one stops it a while later. What is read goes into the partition's
window, and watchers read the window by cursor, so the router knows no client, holds no queue and can't be slowed by
one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from logsvc import metrics
from logsvc.bus.protocol import Bus, Fetched, LiveReader
from logsvc.errors import OutOfRange
from logsvc.model import AppId
from logsvc.window import Feed, Window

BEFORE: Final = 4096
"""How many records earlier a window may begin: what there is more of while a tail changes servers."""
SPREAD: Final = 512
"""How many records less far those may be who come with whoever opens a window."""


class Router:
    """The windows of one process. `run` reads; `watch` says what."""

    def __init__(
        self,
        bus: Bus,
        *,
        window_bytes: int,
        linger: float = 10.0,
        heartbeat: float = 15.0,
        cold_lag: float = 5.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._live: LiveReader = bus.live()
        self._budget = window_bytes
        self._linger = linger
        self._heartbeat = heartbeat
        self._cold_lag = cold_lag
        self._now = now
        self._windows: dict[int, Window] = {}
        self._watchers: dict[int, int] = {}
        self._idle: dict[int, asyncio.TimerHandle] = {}
        self._opening: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._size = 0

    async def run(self) -> None:
        """Read watched partitions into their windows until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(), name="router: read")
            group.create_task(self._beat(), name="router: heartbeat")

    @property
    def window_bytes(self) -> int:
        """Bytes of values in all windows."""
        return self._size

    @property
    def watched(self) -> int:
        """Partitions that are being read."""
        return len(self._windows)

    def window(self, partition: int) -> Window | None:
        """The window of a partition that is being read."""
        return self._windows.get(partition)

    @asynccontextmanager
    async def watch(self, app: AppId, at: int | None = None) -> AsyncIterator[Feed]:
        """Have the app's partition read for as long as the context lasts; `at` is the offset where the watcher goes on.

        Whoever comes back from another server was there a moment ago, and with it all others of that server.
        """
        partition = app.partition(self._bus.partitions)
        self._watchers[partition] = self._watchers.get(partition, 0) + 1
        try:
            if timer := self._idle.pop(partition, None):
                timer.cancel()
            if partition not in self._windows:
                # One at a time: of a thousand who come at once the first one finds the place for all.
                async with self._opening.setdefault(partition, asyncio.Lock()):
                    await self._open(partition, at)
            window = self._windows[partition]
            feed = window.feed(app)
            feed.watchers += 1
            try:
                yield feed
            finally:
                window.leave(app)
        finally:
            self._watchers[partition] -= 1
            if not self._watchers[partition] and partition in self._windows:
                loop = asyncio.get_running_loop()
                self._idle[partition] = loop.call_later(self._linger, self._close, partition)

    async def _open(self, partition: int, at: int | None) -> None:
        if partition not in self._windows:
            start = await self._starting_point(partition, at)
            self._windows[partition] = Window(start)
            self._live.watch(partition, start)

    async def _starting_point(self, partition: int, at: int | None) -> int:
        """The watermark; where the store is far behind, the end: live lines first, older ones for those who ask.

        Somewhat before that, and before `at` where that is just before it, for whoever comes back: those who come with
        it have cursors of quieter apps.
        """
        if await self._lagging(partition):
            start = (await self._bus.bounds(partition)).end
        else:
            start = await self._bus.watermark(partition)
        if at is not None and start - BEFORE <= at:
            return max(min(at, start) - SPREAD, start - BEFORE, (await self._bus.bounds(partition)).start)
        return start

    def forget(self, partition: int, upto: int) -> None:
        """Drop what the partition's window has in front of offset `upto`; the rest of it is read again."""
        window = self._windows.get(partition)
        if window is not None and window.first < upto:
            self._size -= window.size
            window.restart(upto)
            self._live.watch(partition, upto)

    async def cold(self, partition: int) -> bool:
        """Whether there are lines that are neither stored nor in the window, and the store is far behind."""
        window = self._windows.get(partition)
        if window is None or window.first <= await self._bus.watermark(partition):
            return False
        return await self._lagging(partition)

    async def _lagging(self, partition: int) -> bool:
        """Whether what the store doesn't have yet is older than `cold_lag`."""
        oldest = (await self._bus.read(partition, await self._bus.watermark(partition), 1)).chunks
        return bool(oldest) and self._now() - oldest[0].appended / 1000 > self._cold_lag

    def _close(self, partition: int) -> None:
        del self._idle[partition]
        self._live.unwatch(partition)
        window = self._windows.pop(partition)
        self._size -= window.size
        window.close()

    async def _read(self) -> None:
        while True:
            for fetched in await self._fetch():
                window = self._windows.get(fetched.partition)
                if window is None:
                    continue
                before = window.size
                window.extend(fetched.chunks, fetched.next)
                metrics.window_chunks.inc(len(fetched.chunks))
                self._size += window.size - before
            self._make_room()
            # One turn for whoever was woken, however much there is to read.
            await asyncio.sleep(0)

    async def _fetch(self) -> list[Fetched]:
        """What is new. A partition that was left behind until the bus deleted its place begins again further on."""
        try:
            return await self._live.fetch()
        except OutOfRange as error:
            window = self._windows.get(error.partition)
            if window is None:
                return []
            if error.start <= window.next:  # nothing was deleted: the bus has lost its end
                raise
            self._size -= window.size
            window.restart(error.start)
            self._live.watch(error.partition, error.start)
            return []

    def _make_room(self) -> None:
        """Drop the oldest chunks of the largest window: a flood costs its own partition's memory first."""
        while self._size > self._budget:
            largest = max(self._windows.values(), key=lambda window: window.size)
            spare = max(self._budget // 16, 1)
            while len(largest) and self._size > self._budget - spare:
                before = largest.size
                largest.drop_oldest()
                metrics.window_dropped.inc()
                self._size -= before - largest.size

    async def _beat(self) -> None:
        while True:
            # Three looks a period: whoever is just not due has no more than a third of it to wait.
            await asyncio.sleep(self._heartbeat / 3)
            self.wake()

    def wake(self) -> None:
        """Let everyone who waits for lines look around, whether there are any or not."""
        for window in self._windows.values():
            window.wake()

    async def close(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        await self._live.close()
        for window in self._windows.values():
            window.close()
