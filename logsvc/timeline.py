"""The log of one app in cursor order, over window, bus and store. The heart of the service.

Everything that delivers lines is a reader of a timeline with a cursor of its own. A read takes one step: it looks
where the cursor is and returns lines from the newest tier that has that place, with the cursor to go on from:

    store   below the watermark: everything there is, as rows
    bus     from the watermark on: read again, for those who are behind the window
    window  the newest stretch of a partition that is watched, in memory

Tiers meet at offsets, and a chunk is never split between two of them, so there is no seam to lose or double a line at.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from logsvc.bus.protocol import Bus
from logsvc.errors import BadCursor, OutOfRange
from logsvc.formats import cri
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor, Filter, Selection
from logsvc.router import Router
from logsvc.selection import Matcher, first, last
from logsvc.store.protocol import Bucket, StoreReader
from logsvc.window import Window

STEP_BYTES = 256 * 1024
"""About how much one step reads from window or bus: what a reader holds, and what a slow one costs."""

STEP_LINES = 2000
"""How many lines one step reads from the store."""

LAST_LINES = 5000
"""Most lines that are read backwards, and so held, at once."""

Tier = Literal["store", "bus", "window"]


class Step(NamedTuple):
    """What one read returned."""

    selections: list[Selection]
    at: Cursor
    """Everything up to here is read; the next step goes on behind it."""
    tier: Tier
    lost: str | None = None
    """A sentence, where something that should be here is gone."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where timelines are read from; one for the process."""

    bus: Bus
    store: StoreReader
    router: Router


class Timeline:
    """One app's log. Cheap to make: one for each request."""

    def __init__(self, app: AppId, tiers: Tiers) -> None:
        self.app = app
        self._bus, self._store, self._router = tiers.bus, tiers.store, tiers.router
        self.partition = app.partition(tiers.bus.partitions)

    @property
    def start(self) -> Cursor:
        """The place before everything."""
        return Cursor(self._bus.epoch, self.partition, 0, -1)

    async def end(self) -> Cursor:
        """The place behind everything that is durable now."""
        return self._place((await self._bus.bounds(self.partition)).end)

    async def check(self, cursor: Cursor) -> None:
        """Raise BadCursor unless `cursor` can be a place in this timeline."""
        if cursor.epoch != self._bus.epoch:
            raise BadCursor("the cursor is of an epoch that isn't kept here")
        if cursor.partition != self.partition:
            raise BadCursor("the cursor is of another app")
        if cursor > await self.end():
            raise BadCursor("the cursor is beyond the end of the log")

    async def read(self, at: Cursor, matcher: Matcher, end: Cursor | None = None, lines: int = STEP_LINES) -> Step:
        """One step forward from the place `at`, up to the place `end` (else up to what there is).

        About `lines` lines or STEP_BYTES. A step may select nothing and still get on; one that gets nowhere returns
        `at` as it was: there is no more now.
        """
        while True:
            window = self._router.window(self.partition)
            if window is not None and window.first <= at.offset and (at.offset < window.next or end is None):
                return self._from_window(window, at, matcher, end)
            watermark = await self._bus.watermark(self.partition)
            stored = watermark if window is None or window.first <= at.offset else min(watermark, window.first)
            if at.offset < stored:
                return await self._from_store(at, matcher, stored, end, lines)
            try:
                return await self._from_bus(at, matcher, end)
            except OutOfRange as error:
                if at.offset >= error.start:
                    raise
                if error.start > await self._bus.watermark(self.partition):
                    lost = "Lines were deleted from the bus before they were stored: an unknown amount"
                    return Step([], self._place(error.start), "bus", lost)
                # Stored and deleted while we looked: the store has it now.

    async def last(self, count: int, matcher: Matcher, upto: Cursor) -> list[Selection]:
        """The last `count` lines up to the place `upto` that pass, oldest first."""
        newest: deque[Selection] = deque()
        window = self._router.window(self.partition)
        watermark = await self._bus.watermark(self.partition)
        floor = upto
        if window is not None and window.first < upto.offset:
            chunks, floor = window.chunks_before(self.app, upto.offset + 1), self._place(window.first)
            if window.next < upto.offset:
                newest.extend(await self._collect(self._place(window.next), upto, matcher, count))
            for chunk in reversed(chunks):
                if _lines(newest) >= count:
                    break
                if selection := _clip(matcher.select(chunk), upto):
                    newest.appendleft(selection)
        if _lines(newest) < count and watermark < floor.offset:
            unstored = await self._collect(self._place(watermark), floor, matcher, count - _lines(newest))
            newest.extendleft(reversed(unstored))
        place = min(floor, self._place(watermark))
        while (missing := count - _lines(newest)) > 0:
            page = await self._store.before(self.app, place._replace(line=place.line + 1), matcher.wanted, missing)
            newest.extendleft(_whole(chunk) for chunk in reversed(page.chunks))
            if page.done or not page.chunks:
                break
            place = page.chunks[0].cursor(page.chunks[0].numbers[0] - 1)
        return _trim(newest, count)

    async def place_of_last(self, count: int, matcher: Matcher, upto: Cursor) -> Cursor:
        """The place behind which exactly the last `count` lines up to `upto` that pass are (all, if fewer)."""
        while count > 0:
            page = await self.last(min(count, LAST_LINES), matcher, upto)
            if not page:
                break
            upto = page[0].chunk.cursor(page[0].numbers[0] - 1)
            count -= _lines(page)
        return upto

    async def forgotten(self, at: Cursor) -> str | None:
        """What to tell a reader whose cursor names a line that isn't kept any more; None where nothing is missing."""
        if at.line < 0 or at.offset >= await self._bus.watermark(self.partition):
            return None
        oldest = await self._store.first(self.app, at.epoch)
        if oldest is not None and oldest <= at:
            return None
        page = await self._store.after(self.app, at, at.offset + 1, EVERYTHING, 1) if oldest is None else None
        if page is not None and page.chunks:
            return None
        return "Lines after this cursor are past their retention and no longer kept"

    async def cold(self) -> bool:
        """Whether the window began so far behind the watermark that the lines between aren't at hand."""
        window = self._router.window(self.partition)
        return window is not None and window.first > await self._bus.watermark(self.partition) and not len(window)

    async def exists(self) -> bool:
        """Whether the app has any line."""
        window = self._router.window(self.partition)
        if window is not None and len(window.feeds.get(self.app, ())):
            return True
        if await self._store.exists(self.app):
            return True
        at, end = self._place(await self._bus.watermark(self.partition)), await self.end()
        return bool(await self._collect(at, end, Matcher(EVERYTHING), 1))

    async def volume(self, wanted: Filter, step: int) -> list[Bucket]:
        """Lines by bucket of `step` ns of line time, process and stream: rows, and what isn't stored yet."""
        below, end = self._place(await self._bus.watermark(self.partition)), await self.end()
        counts: Counter[tuple[int, str, str]] = Counter()
        for bucket in await self._store.volume(self.app, below, wanted, step):
            counts[bucket[:3]] += bucket.lines
        matcher = Matcher(wanted)
        async for selection in self.between(below, end, matcher):
            process = selection.chunk.stream.process
            for line in cri.lines(selection.value):
                time, stream, _, _ = cri.parse(line)
                counts[cri.time_ns(time) // step * step, process, stream.decode()] += 1
        return [Bucket(*key, lines) for key, lines in sorted(counts.items())]

    async def between(self, at: Cursor, end: Cursor, matcher: Matcher) -> AsyncIterator[Selection]:
        """Everything from the place `at` to the place `end` that passes."""
        while at < end:
            step = await self.read(at, matcher, end)
            if step.at == at:
                return
            at = step.at
            for selection in step.selections:
                yield selection

    async def _collect(self, at: Cursor, end: Cursor, matcher: Matcher, count: int) -> list[Selection]:
        """The last `count` lines between two places, read forward."""
        newest: deque[Selection] = deque()
        lines = 0
        async for selection in self.between(at, end, matcher):
            newest.append(selection)
            lines += len(selection.numbers)
            while lines - len(newest[0].numbers) >= count:
                lines -= len(newest.popleft().numbers)
        return list(newest)

    def _from_window(self, window: Window, at: Cursor, matcher: Matcher, end: Cursor | None) -> Step:
        feed = window.feeds.get(self.app)
        chunks = feed.after(at, STEP_BYTES) if feed is not None else []
        following = window.next
        if chunks and feed is not None and feed.newest is not chunks[-1]:
            following = chunks[-1].offset + 1
        return Step(*self._select(chunks, at, matcher, following, end), "window")

    async def _from_bus(self, at: Cursor, matcher: Matcher, end: Cursor | None) -> Step:
        fetched = await self._bus.read(self.partition, at.offset, STEP_BYTES)
        chunks = [chunk for chunk in fetched.chunks if chunk.stream.app_id == self.app]
        return Step(*self._select(chunks, at, matcher, fetched.next, end), "bus")

    async def _from_store(self, at: Cursor, matcher: Matcher, stored: int, end: Cursor | None, lines: int) -> Step:
        upto = self._place(stored) if end is None else min(end, self._place(stored))
        below = upto.offset + 1 if upto.line >= 0 else upto.offset
        page = await self._store.after(self.app, at, below, matcher.wanted, lines)
        clipped = (_clip(_whole(chunk), upto) for chunk in page.chunks)
        selections = [selection for selection in clipped if selection is not None]
        if page.done or not selections:
            return Step(selections, upto, "store")
        newest = selections[-1]
        return Step(selections, newest.chunk.cursor(newest.numbers[-1]), "store")

    def _select(
        self, chunks: Sequence[Chunk], at: Cursor, matcher: Matcher, following: int, end: Cursor | None
    ) -> tuple[list[Selection], Cursor]:
        """What passes of `chunks` between two places, and the place behind offset `following` or at `end`."""
        upto = self._place(max(following, at.offset))
        if end is not None:
            upto = min(upto, end)
        selections = []
        for chunk in chunks:
            selection = matcher.select(chunk, at.line if chunk.offset == at.offset else -1)
            if selection is not None and end is not None:
                selection = _clip(selection, end)
            if selection is not None:
                selections.append(selection)
        return selections, max(at, upto)

    def _place(self, offset: int) -> Cursor:
        return Cursor(self._bus.epoch, self.partition, offset, -1)


def _whole(chunk: Chunk) -> Selection:
    return Selection(chunk, chunk.value, chunk.numbers)


def _lines(selections: Iterable[Selection]) -> int:
    return sum(len(selection.numbers) for selection in selections)


def _clip(selection: Selection | None, upto: Cursor) -> Selection | None:
    """The lines of a selection up to the place `upto`."""
    if selection is None or selection.chunk.offset < upto.offset:
        return selection
    count = 0 if selection.chunk.offset > upto.offset else bisect_right(selection.numbers, upto.line)
    return first(selection, count) if count else None


def _trim(newest: deque[Selection], count: int) -> list[Selection]:
    """Leave out the oldest lines beyond `count`."""
    surplus = _lines(newest) - count
    while surplus > 0:
        oldest = newest.popleft()
        if len(oldest.numbers) > surplus:
            newest.appendleft(last(oldest, len(oldest.numbers) - surplus))
        surplus -= len(oldest.numbers)
    return list(newest)
