"""One epoch's stretch of an app's timeline, read from the newest tier that has the place.

    store   below the watermark: everything there is, as rows
    bus     from the watermark on, and a stretch in front of it: read again, for those who are behind the window
    window  the newest stretch of a partition that is watched, in memory

Tiers meet at offsets, and a chunk is never split between two of them, so there is no seam to lose or double a line at.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Literal, NamedTuple, Protocol
from weakref import WeakValueDictionary

from logsvc.bus.protocol import Fetched, Records
from logsvc.errors import OutOfRange, StoreAway
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor, Selection
from logsvc.router import Router
from logsvc.selection import Matcher, first, last
from logsvc.store.protocol import StoreReader
from logsvc.stretches import Stretches
from logsvc.window import Window

STEP_BYTES = 256 * 1024
"""About how much one step reads from window or bus: what a reader holds, and what a slow one costs."""

STEP_LINES = 2000
"""How many lines one step reads from the store."""

LAST_LINES = 5000
"""Most lines that are read backwards, and so held, at once."""

LAST_BYTES = 4 * 1024 * 1024
"""About as many bytes of them at most, however long the lines."""

NEAR = 1 << 16
"""A reader no more records behind the watermark than this looks at the bus first, as long as that has them."""

SHARE = 16
"""It goes on there where its app wrote at least one byte of so many; a row of the store costs as much as 15 lines."""

STRETCH = 64
"""How many records of the bus are looked at first to find the last lines; then twice as many, and so on."""

NEAREST: Final = 4 * 1024 * 1024
"""About how many bytes of a window are searched for last lines before the store, which has an index, is asked for what
it has of them too."""

INLINE: Final = 4_000_000
"""Instructions, at worst, that others wait for: 20 ms. A chunk that may take more is tested in a thread, and between
chunks that take as much together others get a turn."""

Tier = Literal["store", "bus", "window"]

# Threads of their own: a pattern that takes seconds must not keep those waiting that write to disks.
_searches = ThreadPoolExecutor(4, "search")
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""By tenant: one search at a time, so that a tenant's many wait for each other and not all others for them."""


class Step(NamedTuple):
    """What one read returned."""

    selections: list[Selection]
    at: Cursor
    """Everything up to here is read; the next step goes on behind it."""
    tier: Tier
    lost: str | None = None
    """A sentence, where something that should be here is gone."""


class Stepping(Protocol):
    """Something that is read step by step: a leg, or all of them."""

    async def read(self, at: Cursor, matcher: Matcher, end: Cursor | None = None, lines: int = STEP_LINES) -> Step:
        """One step forward from the place `at`, up to the place `end`; one that gets nowhere returns `at` as it was."""


async def between(source: Stepping, at: Cursor, end: Cursor, matcher: Matcher) -> AsyncIterator[Selection]:
    """Everything from the place `at` to the place `end` that passes."""
    while at < end:
        step = await source.read(at, matcher, end)
        if step.at == at:
            return
        at = step.at
        for selection in step.selections:
            yield selection
        await asyncio.sleep(0)  # a turn for the others: the window gives none


class Leg:
    """What an app wrote in one epoch."""

    def __init__(self, app: AppId, bus: Records, router: Router | None, store: StoreReader) -> None:
        self.app = app
        self.epoch = bus.epoch
        self.partition = app.partition(bus.partitions)
        self.router = router
        self._bus, self._store = bus, store
        self._stretches = Stretches(app, store)

    @property
    def start(self) -> Cursor:
        return self.place(0)

    @property
    def sealed(self) -> Cursor | None:
        """The place behind its last line, once it gets no more."""
        ends = self._bus.sealed
        return None if ends is None else self.place(ends[self.partition])

    async def end(self) -> Cursor:
        """The place behind everything that is durable now."""
        return self.sealed or self.place((await self._bus.bounds(self.partition)).end)

    async def reaches(self, cursor: Cursor) -> bool:
        """Whether that is no place beyond the end."""
        window = self.window()
        return (window is not None and cursor <= self.place(window.next)) or cursor <= await self.end()

    async def stored(self) -> Cursor:
        """The place up to which the store has everything."""
        return self.place(await self._bus.watermark(self.partition))

    def window(self) -> Window | None:
        return None if self.router is None else self.router.window(self.partition)

    def place(self, offset: int) -> Cursor:
        return Cursor(self.epoch, self.partition, offset, -1)

    async def read(self, at: Cursor, matcher: Matcher, end: Cursor | None = None, lines: int = STEP_LINES) -> Step:
        """One step forward from the place `at`, up to the place `end` (else up to what there is).

        About `lines` lines or STEP_BYTES. A step may select nothing and still get on; one that gets nowhere returns
        `at` as it was: there is no more now.
        """
        while True:
            window = self.window()
            if window is not None and window.first <= at.offset and (at.offset < window.next or end is None):
                return await self._from_window(window, at, matcher, end)
            watermark = await self._bus.watermark(self.partition)
            stored = watermark if window is None or window.first <= at.offset else min(watermark, window.first)
            try:
                if at.offset >= stored:
                    return await self._from_bus(await self._fetch(at), at, matcher, end)
                if not await self._on_bus(at.offset, stored):
                    return await self._from_store(at, matcher, stored, end, lines)
                if not self._is_dense(fetched := await self._fetch(at)):
                    with suppress(StoreAway):  # what other apps wrote comes along then
                        return await self._from_store(at, matcher, stored, end, lines)
                return await self._from_bus(fetched, at, matcher, end)
            except OutOfRange as error:
                if at.offset >= error.start:
                    raise
                if error.start > await self._bus.watermark(self.partition):
                    lost = "Lines were deleted from the bus before they were stored: an unknown amount"
                    return Step([], self.place(error.start), "bus", lost)
                # Stored and deleted while we looked: the store has it now.

    async def near(self, at: Cursor) -> bool:
        """Whether a reader of that place needs no store."""
        return await self._on_bus(at.offset, (await self.stored()).offset)

    async def count(self, at: Cursor, end: Cursor, matcher: Matcher) -> int:
        """How many lines from the place `at` to the place `end` pass."""
        lines = 0
        below = min((await self.stored()).offset, end.offset)
        if at.offset < below:
            lines = await self._store.count(self.app, at, below, matcher.wanted)
            at = self.place(below)
        async for selection in between(self, at, end, matcher):
            lines += len(selection.numbers)
        return lines

    async def near_last(self, count: int, rest: int, matcher: Matcher, low: Cursor, high: Cursor) -> tuple[Cursor, int]:
        """See `Timeline.near_last`; between the places `low` and `high` more than `count` lines pass."""
        while count > rest and high.offset - low.offset > 1:
            middle = self.place((low.offset + high.offset) // 2)
            found = await self.count(middle, high, matcher)
            if found > count:
                low = middle
            else:
                high, count = middle, count - found
        return high, count

    async def appended_since(self, since: int, at: Cursor) -> Cursor:
        """See `Timeline.appended_since`."""
        low, high = at.offset, (await self.end()).offset
        while low < high:  # by halves: times rise with the offsets, but for a clock that is set
            middle = (low + high) // 2
            chunk = await self._chunk_behind(self.place(middle), self.place(high))
            if chunk is None or chunk.appended >= since:
                high = middle
            else:
                low = chunk.offset + 1
        return max(at, self.place(low))

    async def _chunk_behind(self, at: Cursor, end: Cursor) -> Chunk | None:
        """The first chunk between two places."""
        everything = Matcher(EVERYTHING)
        while at < end:
            step = await self.read(at, everything, end, lines=1)
            if step.selections:
                return step.selections[0].chunk
            if step.at == at:
                break
            at = step.at
        return None

    async def last_unstored(self, newest: "Newest", matcher: Matcher, upto: Cursor) -> Cursor:
        """Take what window and bus have up to `upto`, newest first; return the place up to which the store goes on."""
        watermark = self.place(await self._bus.watermark(self.partition))
        window = self.window()
        floor = upto
        if window is not None and self.place(window.first) < upto:
            chunks, floor = window.chunks_before(self.app, upto.offset + 1), self.place(window.first)
            await self.backwards(newest, matcher, self.place(window.next), upto)
            work = searched = 0
            for chunk in reversed(chunks):
                if not newest.missing:
                    break
                if searched > NEAREST and self.place(chunk.offset) < watermark:
                    floor = self.place(chunk.offset + 1)
                    break
                searched += len(chunk.value)
                if (work := work + matcher.work(chunk)) > INLINE:
                    work = 0
                    async with _turn(self.app.tenant):
                        await asyncio.sleep(0)
                if selection := _clip(await self._selected(chunk, matcher), upto):
                    newest.prepend([selection])
        await self.backwards(newest, matcher, watermark, floor)
        return min(floor, watermark)

    async def backwards(self, newest: "Newest", matcher: Matcher, at: Cursor, end: Cursor) -> None:
        """Take the last lines between two places, reading stretch by stretch from the end."""
        stretch = STRETCH
        while newest.missing and at < end:
            begin = max(at, self.place(max(0, end.offset - stretch)))
            part = Newest(newest.missing)
            async for selection in between(self, begin, end, matcher):
                part.append(selection)
            newest.prepend(part.selections())
            end, stretch = begin, stretch * 2

    async def _on_bus(self, offset: int, stored: int) -> bool:
        """Whether the bus still has what is stored from `offset` on, and it is not far to the watermark."""
        return stored - offset <= NEAR and offset >= (await self._bus.bounds(self.partition)).start

    async def _from_window(self, window: Window, at: Cursor, matcher: Matcher, end: Cursor | None) -> Step:
        feed = window.feeds.get(self.app)
        chunks = feed.after(at, STEP_BYTES) if feed is not None else []
        following = window.next
        if chunks and feed is not None and feed.newest is not chunks[-1]:
            following = chunks[-1].offset + 1
        return Step(*await self._select(chunks, at, matcher, following, end), "window")

    def _is_dense(self, fetched: Fetched) -> bool:
        """Whether enough of what was read from the bus is the app's.

        A line of the bus costs a fifteenth of one from a row, but other apps' lines come along with it: a quiet app
        beside a noisy one is found faster by the store's index.
        """
        mine = sum(len(chunk.value) for chunk in fetched.chunks if chunk.stream.app_id == self.app)
        return mine * SHARE >= sum(len(chunk.value) for chunk in fetched.chunks)

    async def _fetch(self, at: Cursor) -> Fetched:
        return await self._bus.read(self.partition, at.offset, STEP_BYTES)

    async def _from_bus(self, fetched: Fetched, at: Cursor, matcher: Matcher, end: Cursor | None) -> Step:
        chunks = [chunk for chunk in fetched.chunks if chunk.stream.app_id == self.app]
        return Step(*await self._select(chunks, at, matcher, fetched.next, end), "bus")

    async def _from_store(self, at: Cursor, matcher: Matcher, stored: int, end: Cursor | None, lines: int) -> Step:
        upto = self.place(stored) if end is None else min(end, self.place(stored))
        below = upto.offset + 1 if upto.line >= 0 else upto.offset
        page, below = await self._stretches.after(at, below, matcher.wanted, lines)
        upto = min(upto, self.place(below))
        clipped = (_clip(whole(chunk), upto) for chunk in page.chunks)
        selections = [selection for selection in clipped if selection is not None]
        if page.done or not selections:
            return Step(selections, upto, "store")
        newest = selections[-1]
        return Step(selections, newest.chunk.cursor(newest.numbers[-1]), "store")

    async def _select(
        self, chunks: Sequence[Chunk], at: Cursor, matcher: Matcher, following: int, end: Cursor | None
    ) -> tuple[list[Selection], Cursor]:
        """What passes of `chunks` between two places, and the place behind offset `following` or at `end`."""
        upto = self.place(max(following, at.offset))
        if end is not None:
            upto = min(upto, end)
        selections = []
        for chunk in chunks:
            selection = await self._selected(chunk, matcher, at.line if chunk.offset == at.offset else -1)
            if selection is not None and end is not None:
                selection = _clip(selection, end)
            if selection is not None:
                selections.append(selection)
        return selections, max(at, upto)

    async def _selected(self, chunk: Chunk, matcher: Matcher, after: int = -1) -> Selection | None:
        if matcher.work(chunk) <= INLINE:
            return matcher.select(chunk, after)
        turn = _turn(self.app.tenant)
        await turn.acquire()
        searching = asyncio.get_running_loop().run_in_executor(_searches, matcher.select, chunk, after)
        # Its turn lasts as long as the thread is busy, though nobody may wait for that any more.
        searching.add_done_callback(lambda _: turn.release())
        return await asyncio.shield(searching)


def _turn(tenant: str) -> asyncio.Lock:
    turn = _turns.get(tenant)
    if turn is None:
        turn = _turns[tenant] = asyncio.Lock()
    return turn


def whole(chunk: Chunk) -> Selection:
    return Selection(chunk, chunk.value, chunk.numbers)


def _clip(selection: Selection | None, upto: Cursor) -> Selection | None:
    """The lines of a selection up to the place `upto`."""
    if selection is None or selection.chunk.offset < upto.offset:
        return selection
    count = 0 if selection.chunk.offset > upto.offset else bisect_right(selection.numbers, upto.line)
    return first(selection, count) if count else None


class Newest:
    """The newest `count` lines of those that are put in, at most about LAST_BYTES of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._size = 0
        self._selections: deque[Selection] = deque()
        self.lines = 0

    @property
    def missing(self) -> int:
        """How many more there is room for in front."""
        return 0 if self._size >= LAST_BYTES else max(0, self._count - self.lines)

    def append(self, selection: Selection) -> None:
        """Put in lines that are newer than those here, and let go of the oldest that are too many."""
        self._selections.append(selection)
        self._add(selection, 1)
        while True:
            oldest = self._selections[0]
            if self.lines - len(oldest.numbers) < self._count and self._size - len(oldest.value) < LAST_BYTES:
                break
            self._selections.popleft()
            self._add(oldest, -1)

    def prepend(self, older: Iterable[Selection]) -> None:
        """Put in lines that are older than those here, as many of the newest of them as there is room for."""
        for selection in reversed(list(older)):
            if not (missing := self.missing):
                return
            kept = last(selection, missing)
            self._selections.appendleft(kept)
            self._add(kept, 1)

    def selections(self) -> list[Selection]:
        """Oldest first."""
        return list(self._selections)

    def _add(self, selection: Selection, sign: int) -> None:
        self.lines += sign * len(selection.numbers)
        self._size += sign * len(selection.value)
