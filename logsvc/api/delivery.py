"""A timeline on its way to one client: what a request asked for, step by step, as framed bytes.

HTTP answers and WebSockets differ in how they send frames, not in which.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from logsvc import metrics
from logsvc.api.context import Context
from logsvc.api.query import Query
from logsvc.formats.representations import Representation
from logsvc.model import Cursor, Selection
from logsvc.selection import first
from logsvc.timeline import LAST_LINES, Timeline
from logsvc.window import Feed


class Frame(NamedTuple):
    """Bytes for the client, and the place behind them. No data: nothing passed the filter on the way there."""

    data: bytes
    lines: int
    at: Cursor


class _Shape:
    """What makes frames look alike: one object for all such readers, so that it is compared by identity."""

    __slots__ = ("alike",)

    def __init__(self, *alike: object) -> None:
        self.alike = alike


_shape = lru_cache(maxsize=1024)(_Shape)


class Delivery:
    """One answer: once it is open, `start` is known and `frames` yields what there is. It holds one step at a time."""

    def __init__(self, timeline: Timeline, context: Context, query: Query, form: Representation) -> None:
        self._timeline, self._context, self._query, self.form = timeline, context, query, form
        self._matcher = query.matcher
        self._shape = _shape(form.name, form.cursors, query.matcher.wanted)
        self._heartbeat = context.heartbeat * 0.9
        self._resources = AsyncExitStack()
        self._feed: Feed | None = None
        self._backlog: list[Selection] = []
        self._notices: list[str] = []
        self._end: Cursor | None = None
        self.start = self.at = timeline.start
        self.lines = 0
        """Lines delivered so far."""
        self.complete = False
        """Whether everything asked for was delivered; not so where the service stops meanwhile."""

    async def open(self) -> None:
        """Find the place to start from, with the app watched already where the answer goes on live.

        Raises BadCursor, StoreAway.
        """
        if self._query.tail:
            self._feed = await self._resources.enter_async_context(self._context.tiers.router.watch(self._timeline.app))
        await self._prepare()

    async def close(self) -> None:
        await self._resources.aclose()

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame of the answer. A tail's never end."""
        for text in self._notices:
            yield Frame(self.form.notice(text, self.at, _now()), 0, self.at)
        if self._backlog:
            frame, self._backlog = self._frame(self._backlog, self.at), []
            self.lines += frame.lines
            yield frame
        async for frame in self._forward():
            self.lines += frame.lines
            self.at = frame.at
            yield frame
        self.complete = not self._query.tail

    async def _prepare(self) -> None:
        query, timeline = self._query, self._timeline
        end = await timeline.end()
        if not query.tail:
            self._end = end
        if query.before is not None:
            await timeline.check(query.before)
            self._end = end = query.before._replace(line=query.before.line - 1)
        if query.after is not None:
            await timeline.check(query.after)
            self.start = self.at = query.after
            if text := await timeline.forgotten(query.after):
                metrics.notices.labels("retention").inc()
                self._notices.append(text)
        elif query.num is not None:
            await self._prepare_last(query.num, end)

    async def _prepare_last(self, num: int, end: Cursor) -> None:
        self.start = self.at = end
        if self._query.tail and await self._timeline.cold():
            metrics.notices.labels("cold").inc()
            self._notices.append("Older lines are still being stored and left out here; ask with since= to have them")
        elif num > LAST_LINES:
            self.start = self.at = await self._timeline.place_of_last(num, self._matcher, end)
        elif num:
            self._backlog = await self._timeline.last(num, self._matcher, end)
            if self._backlog:
                oldest = self._backlog[0]
                self.start = oldest.chunk.cursor(oldest.numbers[0] - 1)

    async def _forward(self) -> AsyncIterator[Frame]:
        """From `at` on, up to the end or for ever."""
        left = self._query.num if self._query.after is not None else None
        loop = asyncio.get_running_loop()
        sent = loop.time()
        at = self.at
        while (self._end is None or at < self._end) and left != 0:
            frame = await self._next(at, left)
            if frame.at == at:
                if self._feed is None or self._context.stopping.is_set():
                    return
                if loop.time() - sent >= self._heartbeat:
                    sent = loop.time()
                    yield Frame(self.form.heartbeat(at), 0, at)
                await self._feed.changed()
                continue
            at = frame.at
            if left is not None:
                left -= frame.lines
            if frame.data:
                sent = loop.time()
            yield frame

    async def _next(self, at: Cursor, left: int | None) -> Frame:
        """The next step's frame, made once for all who read the same from the same place."""
        key = (self._shape, at)
        if self._feed is not None and left is None:
            shared: Frame | None = self._feed.frames.get(key)
            if shared is not None:
                return shared
        step = await self._timeline.read(at, self._matcher, self._end)
        metrics.reads.labels(step.tier).inc()
        selections = step.selections if left is None else _first(step.selections, left)
        frame = self._frame(selections, step.at)
        if step.lost is not None:
            metrics.notices.labels("lost").inc()
            return Frame(self.form.notice(step.lost, step.at, _now()), 0, step.at)
        if step.tier == "window" and self._feed is not None and left is None:
            self._feed.remember(key, frame)
        return frame

    def _frame(self, selections: list[Selection], at: Cursor) -> Frame:
        lines = sum(len(selection.numbers) for selection in selections)
        return Frame(self.form.lines(selections) if selections else b"", lines, at)


def _first(selections: list[Selection], count: int) -> list[Selection]:
    kept = []
    for selection in selections:
        if count <= 0:
            break
        kept.append(first(selection, count))
        count -= len(kept[-1].numbers)
    return kept


def _now() -> str:
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}000Z"
