"""The newest stretch of a partition, in memory: one contiguous interval of offsets, raw bytes, bounded.

A *feed* is one app's share of it. Whoever follows an app reads its feed by cursor and waits on it for more; nobody
holds a copy. Chunks of apps that nobody watches cost an append to two lists.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from typing import Any, Final, cast

from logsvc.model import AppId, Chunk, Cursor

_CHUNK_COST = 500
"""Bytes of memory a chunk takes beside its value."""

_GONE: Final = cast("Chunk", None)
"""In place of a chunk that was dropped, so that its memory is free at once; no reader gets there."""

_FRAMES = 64
"""Most frames that a feed keeps between two wake-ups."""


class Feed:
    """The chunks of one app in a window, in offset order, and those who wait for the next.

    Waking is paced: with many readers a wake-up costs as much as what it delivers, so the pause between two grows
    with their number, from `pace` seconds up to `slowest`.
    """

    def __init__(self, pace: float = 0.004, slowest: float = 0.1) -> None:
        self.watchers = 0
        self.wakes = 0
        """Wake-ups so far: whoever was busy meanwhile sees that there was one."""
        self.frames: dict[object, Any] = {}
        """What readers made of the newest chunks, for others at the same place; forgotten at each wake-up."""
        self._loop = asyncio.get_running_loop()  # kept: asking for it is a system call in Python 3.11
        self._pace = pace
        self._slowest = slowest
        self._chunks: list[Chunk] = []
        self._offsets: list[int] = []
        self._start = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._woken = 0.0

    def __len__(self) -> int:
        return len(self._chunks) - self._start

    def append(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._offsets.append(chunk.offset)
        if not self.watchers:
            self.frames.clear()  # no wake-up will, and the next watcher must not be told that nothing is new
        elif self._timer is None:
            self._schedule()

    def drop_oldest(self) -> None:
        self._chunks[self._start] = _GONE
        self._start += 1
        if self._start > 64 and self._start * 2 > len(self._chunks):
            del self._chunks[: self._start], self._offsets[: self._start]
            self._start = 0

    def after(self, at: Cursor, max_bytes: int) -> list[Chunk]:
        """The chunks from `at.offset` on, about `max_bytes` of them, at least one where there is one."""
        found = bisect_left(self._offsets, at.offset, lo=self._start)
        size, end = 0, found
        while end < len(self._chunks) and size < max_bytes:
            size += len(self._chunks[end].value)
            end += 1
        return self._chunks[found:end]

    def before(self, offset: int) -> list[Chunk]:
        """All chunks below `offset`."""
        return self._chunks[self._start : bisect_left(self._offsets, offset, lo=self._start)]

    @property
    def newest(self) -> Chunk | None:
        return self._chunks[-1] if len(self) else None

    def goes_beyond(self, at: Cursor) -> bool:
        """Whether there is a chunk at `at.offset` or behind it."""
        return len(self) > 0 and self._offsets[-1] >= at.offset

    async def changed(self) -> None:
        """Wait for the next wake-up."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def wake(self) -> None:
        """Let everyone who waits look again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._woken = self._loop.time()
        self.frames.clear()
        self.wakes += 1
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def remember(self, key: object, frame: Any) -> None:
        """Keep a frame for readers at the same place, while there is room."""
        if len(self.frames) < _FRAMES:
            self.frames[key] = frame

    def _schedule(self) -> None:
        pause = min(self._slowest, self._pace + self.watchers * 100e-6)
        self._timer = self._loop.call_at(max(self._loop.time(), self._woken + pause), self.wake)

    def clear(self) -> None:
        """Forget all chunks; who waits goes on elsewhere."""
        self._chunks, self._offsets, self._start = [], [], 0
        self.wake()


class Window:
    """One contiguous interval `first <= offset < next` of a partition's chunks."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.size = 0
        """Bytes of memory held, about."""
        self.feeds: dict[AppId, Feed] = {}
        self._chunks: deque[tuple[Chunk, Feed]] = deque()

    def feed(self, app: AppId) -> Feed:
        feed = self.feeds.get(app)
        if feed is None:
            feed = self.feeds[app] = Feed()
        return feed

    def extend(self, chunks: list[Chunk], following: int) -> None:
        """Add what was read up to offset `following`."""
        for chunk in chunks:
            feed = self.feed(chunk.stream.app_id)
            self._chunks.append((chunk, feed))
            self.size += len(chunk.value) + _CHUNK_COST
            feed.append(chunk)
        self.next = following

    def chunks_before(self, app: AppId, offset: int) -> list[Chunk]:
        """The chunks of an app below `offset`."""
        feed = self.feeds.get(app)
        return feed.before(offset) if feed is not None else []

    def drop_oldest(self) -> None:
        chunk, feed = self._chunks.popleft()
        feed.drop_oldest()
        self.size -= len(chunk.value) + _CHUNK_COST
        self.first = chunk.offset + 1
        if not len(feed) and not feed.watchers:
            del self.feeds[chunk.stream.app_id]

    def restart(self, offset: int) -> None:
        """Forget everything and begin again at `offset`; the feeds and those who wait on them stay."""
        self._chunks.clear()
        self.first = self.next = offset
        self.size = 0
        for feed in self.feeds.values():
            feed.clear()

    def leave(self, app: AppId) -> None:
        """Somebody doesn't watch the app any more."""
        feed = self.feeds[app]
        feed.watchers -= 1
        if not feed.watchers and not len(feed):
            del self.feeds[app]

    def __len__(self) -> int:
        return len(self._chunks)

    def wake(self) -> None:
        for feed in self.feeds.values():
            if feed.watchers:
                feed.wake()

    def close(self) -> None:
        for feed in self.feeds.values():
            feed.wake()
