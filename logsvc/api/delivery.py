"""A timeline on its way to one client: what a request asked for, step by step, as framed bytes.

HTTP answers and WebSockets differ in how they send frames, not in which.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from logsvc import metrics
from logsvc.api.context import Context
from logsvc.api.problems import bad_parameter
from logsvc.api.query import Query
from logsvc.errors import BadCursor, StoreAway
from logsvc.formats.representations import Representation
from logsvc.legs import STEP_BYTES
from logsvc.model import Cursor, Selection
from logsvc.selection import first
from logsvc.timeline import Timeline, before
from logsvc.window import Feed

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between tries of a tail to reach the store; each is twice the one before."""
SLOW = 10.0
"""Seconds for a step's frame, after which what was read with it is let go of: a slow reader reads it again later."""
SEARCH_SECONDS = 20.0
"""About how long the last lines that pass a filter are searched for before an answer begins without more of them:
clients, and proxies between, don't wait for ever."""


def http_chunk(data: bytes) -> bytes:
    """RFC 9112 §7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(slots=True)
class Frame:
    """Bytes for the client, and the place behind them. No data: nothing passed the filter on the way there."""

    data: bytes
    lines: int
    at: Cursor
    live: bool = False
    """Whether it is of the window, where a wake-up tells of all that is newer."""
    _chunk: bytes = b""

    @property
    def chunk(self) -> bytes:
        """The data as a chunk of HTTP/1.1, made once for all clients."""
        if not self._chunk:
            self._chunk = http_chunk(self.data)
        return self._chunk


class _Pulse:
    """Tells when a client has been sent nothing for a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._time = asyncio.get_running_loop().time
        self.beat()

    def beat(self) -> None:
        """Something is sent."""
        self._sent = self._time()

    @property
    def due(self) -> bool:
        return self._time() - self._sent >= self._seconds


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
        self._backlog: deque[Selection] = deque()
        """What was read and isn't sent yet, and the place behind it."""
        self._behind = timeline.start
        self._notices: list[str] = []
        self._unsearched: Cursor | None = None
        """The place in front of which no last lines were looked for."""
        self._end: Cursor | None = None
        self.start = self.at = timeline.start
        self.complete = False
        """Whether everything asked for was delivered; not so where the service stops meanwhile."""

    async def open(self) -> None:
        """Find the place to start from, with the app watched already where the answer goes on live.

        Raises Problem, StoreAway.
        """
        query = self._query
        if query.after is not None:
            await self._check("Last-Event-ID" if query.resumed else "after", query.after)
        if query.tail:
            await self._watch(query.after)
        await self._prepare()

    @property
    def found(self) -> bool:
        """Whether opening it has met a line."""
        return bool(self._backlog)

    async def close(self) -> None:
        await self._resources.aclose()

    async def _watch(self, at: Cursor | None = None) -> None:
        """Watch from `at` on, by default the newest epoch, instead of the one before it."""
        await self._resources.aclose()
        self._feed = await self._resources.enter_async_context(self._timeline.watch(at))

    def _opening(self) -> Iterator[Frame]:
        """What there is to say first."""
        for text in self._notices:
            yield self._notice(text, self.at)
        if (place := self._unsearched) is not None:
            metrics.notices.labels("search").inc()
            text = f"Lines in front of this place were not searched, it takes long: go on with before={place}"
            yield Frame(self.form.notice(text, place, _now(), place), 0, place)

    async def _prepare(self) -> None:
        query, timeline = self._query, self._timeline
        if query.after is not None:
            self.start = self.at = query.after
            if text := await timeline.forgotten(query.after):
                self._add_notice("retention", text)
            if query.tail:
                return
        end = await timeline.end()
        if not query.tail:
            self._end = end
        if query.before is not None:
            await self._check("before", query.before)
            self._end = end = query.before._replace(line=max(-1, query.before.line - 1))
        if query.after is None and query.num is not None:
            await self._prepare_last(query.num, end)

    async def _check(self, parameter: str, cursor: Cursor) -> None:
        try:
            await self._timeline.check(cursor)
        except BadCursor as error:
            raise bad_parameter(parameter, str(error)) from error

    async def _prepare_last(self, num: int, end: Cursor) -> None:
        """Find the last lines. They are held where they are few, else read again from their first one on."""
        self.start = self.at = end
        if not num:
            return
        if self._query.tail and await self._timeline.cold():
            self._add_notice(
                "cold", "Older lines are still being stored and left out here; ask with since= to have them"
            )
            return
        newest, done, self._unsearched = await self._timeline.last(num, self._matcher, end, SEARCH_SECONDS)
        if not newest:
            return
        self.start = self.at = before(newest)
        if done:
            self._backlog, self._behind = deque(newest), end
        else:
            missing = num - sum(len(selection.numbers) for selection in newest)
            self.start = self.at = await self._timeline.place_of_last(missing, self._matcher, self.start)

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame of the answer; a tail's end where the service stops. Raises StoreAway, but not in a tail."""
        for frame in self._opening():
            yield frame
        left = self._query.num if self._query.after is not None else None
        pulse = _Pulse(self._heartbeat)
        pause = 0.0
        behind = False
        at = self.at
        while (self._end is None or at < self._end) and left != 0:
            wakes = 0 if self._feed is None else self._feed.wakes
            try:
                frame = await self._next(at, left)
            except StoreAway:
                if self._feed is None:
                    raise
                if not pause:
                    yield self._notice("The store is away: older lines come when it is back", at, "store")
                if await self._stopping_within(pause := min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)):
                    return
                continue
            pause = 0.0
            if self._feed is not None and frame.at.epoch > at.epoch:
                await self._watch(frame.at)
            moved, at = frame.at != at, frame.at
            if moved:
                left = None if left is None else left - frame.lines
                if frame.data:
                    pulse.beat()
                with self._held():
                    yield frame
                if behind:
                    await asyncio.sleep(0)  # a turn for the others: the window gives none, nor does a write
            elif self._feed is None or self._context.stopping.is_set():
                return
            behind = moved
            if not (moved and frame.data) and pulse.due:
                pulse.beat()
                yield Frame(self.form.heartbeat(at), 0, at)  # then look again: lines may have come meanwhile
            elif self._feed is not None and (not moved or self._may_wait(frame, wakes)):
                behind = False
                await self._feed.changed()
        self.complete = True

    def _may_wait(self, frame: Frame, wakes: int) -> bool:
        """Whether a look for what is behind the frame can be spared: nothing is there, and a wake-up will tell.

        `wakes` is the feed's count from before the frame was read.
        """
        feed = self._feed
        if feed is None or not frame.live or self._context.stopping.is_set():
            return False
        return feed.wakes == wakes and not feed.goes_beyond(frame.at)

    async def _stopping_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._context.stopping.wait()
        except TimeoutError:
            return False

    def _add_notice(self, reason: str, text: str) -> None:
        metrics.notices.labels(reason).inc()
        self._notices.append(text)

    def _notice(self, text: str, at: Cursor, reason: str | None = None) -> Frame:
        if reason is not None:
            metrics.notices.labels(reason).inc()
        return Frame(self.form.notice(text, at, _now()), 0, at)

    async def _next(self, at: Cursor, left: int | None) -> Frame:
        """The next step's frame, made once for all who read the same from the same place.

        What is more than a frame holds, as pages of the store may be, is kept for the next ones.
        """
        if self._backlog:
            return self._kept()
        key = (self._shape, at)
        if self._feed is not None and left is None:
            shared: Frame | None = self._feed.frames.get(key)
            if shared is not None:
                return shared
        step = await self._timeline.read(at, self._matcher, self._end)
        metrics.reads.labels(step.tier).inc()
        selections = step.selections if left is None else _first(step.selections, left)
        if step.lost is not None:
            return self._notice(step.lost, step.at, "lost")
        if step.tier == "store" and selections:
            self._backlog, self._behind = deque(selections), step.at
            return self._kept()
        frame = self._frame(selections, step.at, live=step.tier == "window" and left is None)
        if frame.live and self._feed is not None:
            self._feed.remember(key, frame)
        return frame

    def _kept(self) -> Frame:
        """About STEP_BYTES of the backlog, which isn't empty."""
        some = [self._backlog.popleft()]
        size = len(some[0].value)
        while self._backlog and (size := size + len(self._backlog[0].value)) <= STEP_BYTES:
            some.append(self._backlog.popleft())
        return self._frame(some, some[-1].chunk.cursor(some[-1].numbers[-1]) if self._backlog else self._behind)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep the backlog while a client takes a frame, but not for one that doesn't: it is read again then."""
        letting_go = asyncio.get_running_loop().call_later(SLOW, self._backlog.clear) if self._backlog else None
        try:
            yield
        finally:
            if letting_go is not None:
                letting_go.cancel()

    def _frame(self, selections: list[Selection], at: Cursor, *, live: bool = False) -> Frame:
        lines = sum(len(selection.numbers) for selection in selections)
        return Frame(self.form.lines(selections) if selections else b"", lines, at, live)


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
