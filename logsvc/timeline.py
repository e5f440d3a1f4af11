"""The log of one app in cursor order. The heart of the service.

Everything that delivers lines is a reader of a timeline with a cursor of its own. A timeline is made of legs, one for
each epoch of the bus, oldest first; a read takes one step in the leg that the cursor is in (see legs.py), and goes over
to the next leg at the end that was recorded when the epoch was sealed.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

from logsvc.bus.protocol import Bus, Records
from logsvc.errors import BadCursor, BusError, StoreAway
from logsvc.formats import cri
from logsvc.legs import LAST_LINES, STEP_LINES, Leg, Newest, Step, between, whole
from logsvc.model import EVERYTHING, AppId, Cursor, Filter, Selection
from logsvc.purges import Purges
from logsvc.router import Router
from logsvc.selection import Matcher
from logsvc.store.protocol import VOLUME_BY, Bucket, StoreReader
from logsvc.stretches import Stretches
from logsvc.tasks import any_of
from logsvc.together import Together
from logsvc.window import Feed


class Last(NamedTuple):
    """The newest lines in front of a place, oldest first."""

    selections: list[Selection]
    done: bool
    """Whether these are all that were asked for; else they are the newest of them, and there may be more."""
    unsearched: Cursor | None = None
    """The place in front of which nobody has looked, because it would have taken too long."""


class Epoch(NamedTuple):
    """One incarnation of the bus, and who reads it live."""

    bus: Records
    router: Router | None
    """None where the epoch was sealed before this process began."""


@dataclass(slots=True)
class Tiers:
    """Where timelines are read from; one for the process."""

    bus: Bus
    store: StoreReader
    router: Router
    older: list[Epoch] = field(default_factory=list)
    """Sealed epochs, oldest first."""
    successors: bool = False
    """Whether epochs may follow that others have heard of already."""
    purges: Purges = field(default_factory=Purges)
    """Where logs begin of which something was removed."""
    first: Together[tuple[AppId, int], Cursor | None] = field(init=False)
    """`StoreReader.first`, of an app and an epoch."""

    def __post_init__(self) -> None:
        self.first = Together(lambda of: self.store.first(*of))

    def cross(self, bus: Bus, router: Router) -> None:
        """Go over to a new epoch. The one before is sealed; whoever waits for lines of it goes on in the new one."""
        sealed = self.router
        self.older.append(Epoch(self.bus, sealed))
        self.bus, self.router = bus, router
        sealed.wake()

    def forget(self, before: Cursor) -> None:
        """Drop from memory what is in front of a place, in its partition of its epoch."""
        for bus, router in [*self.older, Epoch(self.bus, self.router)]:
            if router is not None and bus.epoch == before.epoch:
                router.forget(before.partition, before.offset)

    def wake(self) -> None:
        """Let everyone who waits for lines look around."""
        for _, router in [*self.older, Epoch(self.bus, self.router)]:
            if router is not None:
                router.wake()


class Timeline:
    """One app's log. Cheap to make: one for each request."""

    def __init__(self, app: AppId, tiers: Tiers, store: StoreReader | None = None) -> None:
        """`store`: instead of that of the tiers, with limits."""
        self.app = app
        self._tiers, self._store = tiers, store or tiers.store
        self._legs: list[Leg] = []

    def _all(self) -> list[Leg]:
        """A leg for each epoch there is by now."""
        tiers = self._tiers
        if len(self._legs) <= len(tiers.older):
            epochs = [*tiers.older, Epoch(tiers.bus, tiers.router)]
            self._legs = [Leg(self.app, bus, router, self._store) for bus, router in epochs]
        return self._legs

    def _leg(self, at: Cursor) -> Leg:
        return next(leg for leg in self._all() if leg.epoch == at.epoch)

    @property
    def start(self) -> Cursor:
        """The place before everything."""
        return self._purged or self._all()[0].start

    @property
    def _purged(self) -> Cursor | None:
        """The place in front of which everything was removed."""
        return self._tiers.purges.place(self.app)

    async def end(self) -> Cursor:
        """The place behind everything that is durable now."""
        return await self._all()[-1].end()

    def watch(self, at: Cursor | None = None) -> AbstractAsyncContextManager[Feed]:
        """Have what comes in the epoch of `at` read, by default in the newest, for as long as the context lasts."""
        leg = self._all()[-1] if at is None else self._leg(at)
        if leg.router is None:  # an epoch sealed before this process began gets no lines
            return self._tiers.router.watch(self.app)
        return leg.router.watch(self.app, None if at is None else at.offset)

    def in_window(self, at: Cursor) -> bool:
        """Whether what is read from the place `at` on is in memory, or will be in a moment."""
        window = self._leg(at).window()
        return window is not None and window.first <= at.offset

    def coming(self, at: Cursor, end: Cursor) -> bool:
        """Whether a window that began at the place `at` or before will have all up to the place `end` in a moment."""
        window = self._leg(at).window()
        if window is None or at.epoch < end.epoch:
            return False
        return self.in_window(at) and window.next < end.offset + (end.line >= 0)

    async def check(self, cursor: Cursor) -> None:
        """Raise BadCursor unless `cursor` can be a place in this timeline.

        Raises BusError for one of an epoch that may have begun elsewhere just now.
        """
        legs = self._all()
        leg = next((leg for leg in legs if leg.epoch == cursor.epoch), None)
        if leg is None:
            if self._tiers.successors and cursor.epoch == legs[-1].epoch + 1:
                raise BusError(f"epoch {cursor.epoch} has not begun here yet")
            raise BadCursor("the cursor is of an epoch that isn't kept here")
        if cursor.partition != leg.partition:
            raise BadCursor("the cursor is of another app")
        if not await leg.reaches(cursor):
            raise BadCursor("the cursor is beyond the end of the log")

    async def read(self, at: Cursor, matcher: Matcher, end: Cursor | None = None, lines: int = STEP_LINES) -> Step:
        """One step forward from the place `at`, up to the place `end` (else up to what there is).

        About `lines` lines or STEP_BYTES. A step may select nothing and still get on; one that gets nowhere returns
        `at` as it was: there is no more now.
        """
        purged = self._purged
        if purged is not None and at < purged:
            return Step([], purged, "bus", "Lines in front of this place were removed for good")
        legs = self._all()
        leg = self._leg(at)
        if leg.sealed is None or leg is legs[-1]:
            return await leg.read(at, matcher, end, lines)
        if at >= leg.sealed:
            return Step([], legs[legs.index(leg) + 1].start, "bus")
        return await leg.read(at, matcher, leg.sealed if end is None else min(end, leg.sealed), lines)

    async def last(self, count: int, matcher: Matcher, upto: Cursor, patience: float = math.inf) -> Last:
        """The last `count` lines up to the place `upto` that pass; fewer where they are many bytes.

        Where the store has to be searched bit by bit, no longer than about `patience` seconds.
        """
        until = time.monotonic() + patience
        newest = Newest(min(count, LAST_LINES))
        for leg in reversed(self._all()):
            if leg.epoch > upto.epoch:
                continue
            place = await leg.last_unstored(newest, matcher, min(upto, await leg.end()))
            if not newest.missing:
                break
            if place > leg.start:  # what is stored of an epoch comes after all of those before it
                return self._unpurged(await self._last_stored(newest, count, matcher, place, until))
        return self._unpurged(Last(newest.selections(), done=newest.missing > 0 or newest.lines >= count))

    def _unpurged(self, last: Last) -> Last:
        """What is left of it, behind what was removed: then there is no more in front of it."""
        purged = self._purged
        if purged is None:
            return last
        kept = [selection for selection in last.selections if selection.chunk.cursor(-1) >= purged]
        return last._replace(selections=kept, done=last.done or len(kept) < len(last.selections))

    async def _last_stored(self, newest: Newest, count: int, matcher: Matcher, place: Cursor, until: float) -> Last:
        stretches = Stretches(self.app, self._store)
        while newest.missing:
            behind = place._replace(line=place.line + 1)
            page, floor = await stretches.before(behind, matcher.wanted, newest.missing)
            newest.prepend(map(whole, page.chunks))
            if not page.done and page.chunks:
                place = page.chunks[0].cursor(page.chunks[0].numbers[0] - 1)
            elif floor is None:
                return Last(newest.selections(), done=newest.missing > 0 or newest.lines == count)
            elif newest.missing and time.monotonic() > until:
                return Last(newest.selections(), done=True, unsearched=floor)
            else:
                place = floor
        return Last(newest.selections(), done=newest.lines >= count)

    async def place_of_last(self, count: int, matcher: Matcher, upto: Cursor) -> Cursor:
        """The place behind which exactly the last `count` lines up to `upto` that pass are (all, if fewer)."""
        while count > 0:
            selections, done, _ = await self.last(count, matcher, upto)
            if selections:
                upto = before(selections)
                count -= sum(len(selection.numbers) for selection in selections)
            if done:
                break
        return upto

    async def near_last(self, count: int, rest: int, matcher: Matcher, upto: Cursor) -> tuple[Cursor, int]:
        """A place behind which nearly the last `count` lines up to `upto` that pass are, and how many are missing.

        Those are `rest` at most, or what is in one record or two. Found by counting: there may be too many to be read.
        """
        for leg in reversed(self._all()):
            if leg.epoch > upto.epoch or count <= rest:
                continue
            low, high = leg.start, min(upto, await leg.end())
            found = await leg.count(low, high, matcher)
            if found > count:
                return await leg.near_last(count, rest, matcher, low, high)
            count, upto = count - found, low
        return upto, count

    async def forgotten(self, at: Cursor) -> str | None:
        """What to tell a reader whose cursor is older than what is kept; None where nothing can be missing."""
        leg = self._leg(at)
        window = leg.window()
        if at <= self.start or (window is not None and window.first <= at.offset):
            return None
        if at >= await leg.stored():
            return None
        try:
            oldest = await self._tiers.first((self.app, at.epoch))
        except StoreAway:
            if await leg.near(at):
                return None  # it is read from the bus
            raise
        if oldest is not None and oldest.offset <= at.offset:
            return None
        until = ""
        if oldest is not None:
            for chunk in (await self._store.after(self.app, at, oldest.offset + 1, EVERYTHING, 1)).chunks:
                until = f" and up to {cri.format_time(chunk.appended * 1_000_000)[:19].decode()}Z"
        return f"Lines behind this cursor{until} may be missing: they are past their retention"

    async def cold(self) -> bool:
        """Whether the newest lines can't be had at once: the store is far behind, and the window doesn't reach back."""
        leg = self._all()[-1]
        return leg.router is not None and await leg.router.cold(leg.partition)

    async def exists(self) -> bool:
        """Whether the app has any line. Raises StoreAway, BusError where only the one that is away can tell."""
        if self._purged is not None:
            return bool((await self.last(1, Matcher(EVERYTHING), await self.end())).selections)
        leg = self._all()[-1]
        window = leg.window()
        if window is not None and len(window.feeds.get(self.app, ())):
            return True
        return await any_of(self._store.exists(self.app), self._is_unstored())

    async def _is_unstored(self) -> bool:
        """Whether the app has a line that isn't stored yet."""
        newest = Newest(1)
        for leg in reversed(self._all()):
            await leg.backwards(newest, Matcher(EVERYTHING), await leg.stored(), await leg.end())
        return not newest.missing

    async def count(self, at: Cursor, end: Cursor, matcher: Matcher) -> int:
        """How many lines from the place `at` to the place `end` pass: rows, and what isn't stored yet."""
        lines = 0
        for leg in self._all():
            if at.epoch <= leg.epoch <= end.epoch:
                begin = at if leg.epoch == at.epoch else leg.start
                upto = min(end, leg.sealed or end) if leg.epoch == end.epoch else await leg.end()
                lines += await leg.count(begin, upto, matcher)
        return lines

    async def appended_since(self, since: int, at: Cursor) -> Cursor:
        """The first place from `at` on, within its epoch, behind which the bus took everything at `since` (Unix ms) or
        later; where it took nothing so late, the epoch's end.
        """
        return await self._leg(at).appended_since(since, at)

    async def volume(self, wanted: Filter, step: int, by: Sequence[str] = VOLUME_BY) -> list[Bucket]:
        """Lines by bucket of `step` ns of line time, and by what `by` names: rows, and what isn't stored yet."""
        below, end = await self._stored(), await self.end()
        counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
        if below > self.start:
            for bucket in await self._store.volume(self.app, below, wanted, step, by):
                counts[bucket[:2]] += bucket.lines
        matcher = Matcher(wanted)
        async for selection in between(self, below, end, matcher):
            of = selection.chunk.stream
            names = {
                stream: tuple(stream.decode() if name == "stream" else getattr(of, name) for name in by)
                for stream in (b"stdout", b"stderr")
            }
            for line in cri.lines(selection.value):
                time, stream, _, _ = cri.parse(line)
                counts[cri.time_ns(time) // step * step, names[stream]] += 1
        return [Bucket(*key, lines) for key, lines in sorted(counts.items())]

    async def _stored(self) -> Cursor:
        """The place up to which the store has everything, of all epochs."""
        for leg in self._all():
            stored = await leg.stored()
            if leg.sealed is None or stored < leg.sealed:
                break
        return stored


def before(selections: Sequence[Selection]) -> Cursor:
    """The place in front of the first line."""
    oldest = selections[0]
    return oldest.chunk.cursor(oldest.numbers[0] - 1)
