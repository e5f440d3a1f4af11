"""One drain's delivery: from its place in the timeline to its receiver, a frame at a time, or a few at once.

A frame's range is saved before it is sent, and what is sent again is read again from that range. So a try that failed,
a process that was killed and a drain that was changed go on alike: with the same frame, under the same id.

Frames are cut one after the other, and sent in lanes: one lane where the order is kept, else several, none of which
waits for another.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from logsvc import metrics
from logsvc.config import Drains
from logsvc.drains.batches import Batch, BatchReader
from logsvc.drains.model import Drain, Frame, Lost, Position, State
from logsvc.drains.notices import Announcer, overflow
from logsvc.drains.outbound import Outbound
from logsvc.drains.policy import Answer, Backoff, Outcome
from logsvc.drains.registry import Share
from logsvc.drains.report import EVERY, Counting, Report
from logsvc.drains.senders import Sender, sender_of
from logsvc.drains.trouble import Trouble
from logsvc.drains.urls import parse
from logsvc.errors import BadCursor, BusError, NewerFormat
from logsvc.legs import LAST_LINES, between
from logsvc.model import AppId, Cursor, Selection
from logsvc.selection import Matcher
from logsvc.timeline import Tiers, Timeline, before
from logsvc.waiting import TROUBLE
from logsvc.window import Feed

T = TypeVar("T")

LANES: Final = 4
"""Frames that a drain of waived order has under way at once."""
CROWD: Final = 4
"""Drains that read what isn't in memory at once; the others wait their turn, and those at the end don't notice."""

_KEPT: Final = 3600.0
"""Seconds before the end of their retention at which lines are too old for a drain."""
_LOOK: Final = 300.0
"""Seconds between two looks at what waits behind a frame that isn't taken."""
_OLD: Final = 60.0
"""Seconds that a drain must be behind before anybody counts its lines."""
_COUNT: Final = 300.0
"""Seconds between two counts of the lines that a drain is behind."""
_SETTLED: Final = 1.0
"""Seconds after which it is saved that a frame is settled, at the next look around, unless another one is before."""
_SAVE: Final = 30.0
"""Seconds after which a place is saved to which nothing was sent."""
_SOON: Final = 1.0
"""Most seconds that are waited until the window has a frame; then it is read from elsewhere."""
_ROOM: Final = 0.9
"""Share of its limit to which a drain skips ahead: one that is too slow for its app skips now and then, not always."""
_LEAVE: Final = 2.0
"""Most seconds that a delivery takes to end."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds between tries to read a bus or a store that is away."""

logger = logging.getLogger(__name__)


class Backlog:
    """How far a drain may be behind, by its plan."""

    def __init__(self, settings: Drains, default: str, kept: Callable[[str], float | None] = lambda _: None) -> None:
        """`default` is the plan of those whose own isn't set, `kept` for how many seconds a plan's lines are kept."""
        self._settings, self._default, self._kept = settings, default, kept

    def seconds(self, plan: str) -> float | None:
        """Most age of a line that is still delivered: less than it is kept, so that what is skipped can be counted."""
        given = self._settings.backlog_seconds
        limit, kept = given.get(plan, given.get(self._default)), self._kept(plan)
        if kept is None:
            return limit
        return kept - _KEPT if limit is None else min(limit, kept - _KEPT)

    def lines(self, plan: str) -> int | None:
        return self._settings.backlog_lines.get(plan)


@dataclass(frozen=True)
class Means:
    """What all deliveries of a process have in common."""

    tiers: Tiers
    outbound: Outbound
    announcer: Announcer
    backlog: Backlog
    now: Callable[[], float] = time.time
    crowd: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CROWD))
    counting: Counting = field(default_factory=Counting)

    @property
    def settings(self) -> Drains:
        return self.outbound.settings


class Beyond(NamedTuple):
    """What a drain leaves out."""

    place: Cursor
    """Up to where."""
    lines: int
    """How many that are, of those that can still be counted."""
    gone: str | None = None
    """A sentence, where others are there no more."""


class Delivery:
    """One drain, from the place that was saved last. Holds a frame in each lane."""

    def __init__(self, drain: Drain, share: Share, means: Means) -> None:
        """Raises BadUrl."""
        url = parse(drain.url)
        self._drain, self._share, self._means = drain, share, means
        self._settings = means.settings
        self._app = AppId(drain.tenant, drain.app)
        self._timeline = Timeline(self._app, means.tiers)
        self._matcher = Matcher(drain.filter)
        self._senders = [sender_of(url, drain.token, means.outbound) for _ in range(1 if drain.ordered else LANES)]
        self._position = share.position(drain.id) or Position(drain.start)
        self._saved = self._position
        self._saved_at = means.now()
        self._trouble = Trouble(url.masked(), self._settings.announce_seconds, self._position.told)
        self._report = Report(drain, share, self._timeline, means.counting, means.now)
        self._cutting = asyncio.Lock()
        """Whoever has it reads on from `_position.read`; the others change what is pending only."""
        self._reader: BatchReader
        self._feed: Feed
        self._watching = AsyncExitStack()
        self._watched = 0
        self._due = 0.0
        self._counted, self._looked = 0.0, means.now()
        self._gone: str | None = None
        """What was told last of lines that are past their retention."""

    async def run(self) -> None:
        """Deliver until cancelled. Raises, in a group, ShareLost or another BusError where a place can't be saved,
        NewerFormat.
        """
        try:
            async with self._watching:
                await self._begin()
                unsettled = deque(self._position.pending)
                async with asyncio.TaskGroup() as lanes:
                    for sender in self._senders:
                        lanes.create_task(self._lane(sender, unsettled), name=f"lane of drain {self._drain.id}")
        finally:
            for sender in self._senders:
                await sender.close()
            await self._leave()

    async def _leave(self) -> None:
        """Save which frames were taken, so that whoever goes on doesn't send them again."""
        if self._saved.pending != self._position.pending:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await self._save(self._position)

    async def _begin(self) -> None:
        try:
            # The later one of each epoch: what is in front of it is there as well.
            places = {place.epoch: place for place in (self._position.oldest, self._position.read)}
            for place in places.values():
                await self._patiently(partial(self._timeline.check, place))
        except BadCursor as error:
            logger.warning("drain %s begins anew: %s", self._drain.id, error)
            await self._tell("Lines behind the place where it was can't be found any more: it goes on with the oldest")
            self._position = replace(self._position, read=self._timeline.start, pending=())
        self._move(self._position.read)
        await self._watch(self._position.oldest)  # first, as what is in memory need not be looked for
        gone = await self._patiently(lambda: self._timeline.forgotten(self._position.oldest))
        await self._tell_gone(gone)

    def _move(self, at: Cursor) -> None:
        self._reader = BatchReader(self._timeline, self._matcher, at, self._means.crowd)

    async def _watch(self, at: Cursor) -> None:
        """Have the epoch of a place read, from there on where that is near."""
        await self._watching.aclose()
        watched = await self._patiently(lambda: self._watching.enter_async_context(self._timeline.watch(at)))
        self._feed, self._watched = watched, at.epoch

    async def _lane(self, sender: Sender, unsettled: deque[Frame]) -> None:
        """Send one frame after the other, first those that were left unsettled; where there is none, wait."""
        while unsettled:
            await self._settle(sender, unsettled.popleft(), None)
        while True:
            await self._settle(sender, *await self._next())

    # ---- cutting frames

    async def _next(self) -> tuple[Frame, list[Selection]]:
        """The next frame, saved, and its lines, once there are some."""
        async with self._cutting:
            while True:
                wakes = self._feed.wakes
                batch = await self._batch()
                if batch.lines and await self._skip(batch, await self._patiently(partial(self._beyond, batch))):
                    continue
                if self._reader.at.epoch > self._watched:
                    await self._watch(self._reader.at)
                if batch.lines:
                    pause = 0.0 if batch.full else self._settings.batch_seconds
                    self._due = asyncio.get_running_loop().time() + pause
                    position, frame = self._position.begin(batch.first, batch.last, self._drain.id)
                    await self._save(position)
                    return frame, batch.selections
                await self._rest(batch.last, wakes)

    async def _batch(self) -> Batch:
        """The lines for the next frame; none where there are none now."""
        # Read once, when it is time: what comes meanwhile isn't looked at for each of its chunks.
        if (pause := self._due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(pause)
        batch = Batch(self._position.read, self._settings.batch_bytes)
        await self._patiently(lambda: self._reader.fill(batch))
        while self._reader.lost:
            await self._tell(self._reader.lost.pop(0))
        return batch

    async def _rest(self, at: Cursor, wakes: int) -> None:
        """Wait at the end; `wakes` of the feed were looked at."""
        self._position = replace(self._position, read=at)
        unsaved = self._means.now() - self._saved_at
        if unsaved >= _SAVE or (unsaved >= _SETTLED and self._saved.pending != self._position.pending):
            await self._save(self._position)
        if not self._position.pending:
            await self._report.at_end()
        if self._feed.wakes == wakes and not self._feed.goes_beyond(at):
            await self._feed.changed()

    # ---- sending

    async def _settle(self, sender: Sender, frame: Frame, selections: Sequence[Selection] | None) -> None:
        """Send a frame until it is taken or refused. `selections` are what it holds, where that was just read."""
        backoff = Backoff(self._settings.pause_first, self._settings.pause_most)
        lines, oldest = 0, self._means.now()
        while True:
            if selections is None:
                selections = await self._patiently(lambda: self._read_again(frame))
            had, lines = lines, sum(len(selection.numbers) for selection in selections)
            if lines < had:
                await self._expired(frame, had - lines, oldest)
            began = self._means.now()
            oldest = selections[0].chunk.appended / 1000 if selections else began
            answer = await self._try(sender, frame, selections)
            metrics.drain_frames.labels(answer.outcome.value).inc()
            if answer.outcome is not Outcome.FAILED:
                break
            selections = None  # it may take long, and there may be many
            if not self._cutting.locked():
                self._reader.forget()
            await self._wait(frame, answer, oldest, backoff)
        self._position = self._position.settle(frame)
        if answer.outcome is Outcome.TAKEN:
            await self._taken(frame, lines, oldest, answer)
        else:
            await self._refused(frame, lines, oldest, answer)

    async def _try(self, sender: Sender, frame: Frame, selections: Sequence[Selection]) -> Answer:
        """Send a frame once; nothing of it may be left: it is past its retention, or the filter is another one."""
        told = [overflow(self._app, frame.lost, selections)] if frame.lost is not None else []
        if not told and not selections:
            return Answer(Outcome.TAKEN, "")
        framed = sender.framer.frame([*told, *selections])
        metrics.drain_bytes.inc(len(framed.body))
        with metrics.drain_request_seconds.time():
            return await sender.send(frame.id, framed)

    async def _read_again(self, frame: Frame) -> list[Selection]:
        # Whoever takes over from a process that died reads a frame of each drain: once together, not each by itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SOON):
                while self._timeline.coming(frame.first, frame.last):
                    await self._feed.changed()
        async with self._means.crowd:
            found = between(self._timeline, frame.first, frame.last, self._matcher)
            return [selection async for selection in found]

    async def _expired(self, frame: Frame, lines: int, oldest: float) -> None:
        """So many lines of a frame that waits to be sent are there no more, the first of which was as old as that."""
        gone = await self._patiently(lambda: self._timeline.forgotten(frame.first))
        if gone is None:
            return  # somebody has removed them for good
        metrics.drain_lost_lines.labels("retention").inc(lines)
        await self._save(replace(self._position, lost=Lost(lines, int(oldest)).and_also(self._position.lost)))
        await self._tell_gone(gone)

    async def _wait(self, frame: Frame, answer: Answer, oldest: float, backoff: Backoff) -> None:
        loop, now = asyncio.get_running_loop(), self._means.now()
        await self._announce(self._trouble.failed(frame.id, answer, now))
        pause = backoff.next(answer.retry_after)
        until = loop.time() + pause
        while (left := until - loop.time()) > 0:
            await self._report.failed(State.RETRYING, answer.words, oldest, self._position, now + pause)
            await self._look_behind()
            await asyncio.sleep(min(left, EVERY))

    async def _taken(self, frame: Frame, lines: int, oldest: float, answer: Answer) -> None:
        metrics.drain_delay_seconds.observe(max(0.0, self._means.now() - oldest))
        rejected = min(answer.rejected, lines)
        metrics.drain_lines.inc(lines - rejected)
        if answer.rejected:
            # Where that is more than there were lines, it is what was said at their head as well.
            said = frame.lost if answer.rejected > lines else None
            await self._lose(frame, Lost(rejected, int(oldest)).and_also(said), rejected, answer)
            self._report.rejected(answer.words)
        else:
            await self._announce(self._trouble.taken(frame.id))
        await self._report.delivered(lines - rejected, oldest, self._position, failing=self._trouble.failing)

    async def _refused(self, frame: Frame, lines: int, oldest: float, answer: Answer) -> None:
        await self._lose(frame, Lost(lines, int(oldest)).and_also(frame.lost), lines, answer)
        await self._report.failed(State.DROPPING, answer.words, oldest, self._position, None)

    async def _lose(self, frame: Frame, lost: Lost, lines: int, answer: Answer) -> None:
        """Count what the receiver will not take: `lines` of the frame, and what the frame said was lost before it."""
        metrics.drain_lost_lines.labels("refused").inc(lines)
        # What is counted once isn't sent again.
        await self._save(replace(self._position, lost=lost.and_also(self._position.lost)))
        await self._announce(self._trouble.refused(frame.id, answer, lines, self._means.now()))

    async def _save(self, position: Position) -> None:
        self._position = position
        await self._share.save(self._drain.id, position)
        self._saved = position
        self._saved_at = self._means.now()

    # ---- a drain that is too far behind

    async def _look_behind(self) -> None:
        """Skip what gets too old behind a frame that isn't taken: it can be counted only while it is there."""
        now = self._means.now()
        if self._cutting.locked() or now - self._looked < _LOOK:
            return
        async with self._cutting:
            self._looked = now
            beyond, batch = None, Batch(self._position.read, 1)
            with suppress(*TROUBLE):  # the frame doesn't wait for that
                await self._reader.fill(batch)
                beyond = await self._beyond(batch) if batch.lines else None
            self._move(self._position.read)
            if beyond is not None:
                await self._skip(batch, beyond)

    async def _beyond(self, batch: Batch) -> Beyond | None:
        """What of a batch and behind it is beyond the limits of the plan. Raises BusError, StoreError."""
        now, plan = self._means.now(), self._drain.plan
        age = now - batch.appended / 1000
        seconds, lines = self._means.backlog.seconds(plan), self._means.backlog.lines(plan)
        if seconds is not None and age > seconds:
            async with self._means.crowd:
                since = int((now - seconds * _ROOM) * 1000)
                target = await self._timeline.appended_since(since, batch.first)
                return await self._counted_to(target, batch)
        if age > _OLD and now - self._counted > _COUNT:
            self._counted = now
            async with self._means.crowd:
                gone = await self._timeline.forgotten(batch.first)
                if gone is not None:
                    return Beyond(before(batch.selections), 0, gone)
                if lines is not None:
                    return await self._counted_to(await self._newest(lines, batch.first), batch)
        return None

    async def _counted_to(self, target: Cursor, batch: Batch) -> Beyond | None:
        if target <= batch.first:
            return None
        return Beyond(target, await self._timeline.count(batch.first, target, self._matcher))

    async def _newest(self, lines: int, at: Cursor) -> Cursor:
        """The place to skip to, or `at` where there aren't more than `lines` lines behind it."""
        end = await self._timeline.end()
        if await self._timeline.count(at, end, self._matcher) <= lines:
            return at
        near, missing = await self._timeline.near_last(int(lines * _ROOM), LAST_LINES, self._matcher, end)
        return await self._timeline.place_of_last(missing, self._matcher, near)

    async def _skip(self, batch: Batch, beyond: Beyond | None) -> bool:
        """Leave out what is beyond the limits, said and counted; whether there was anything."""
        if beyond is None:
            return False
        await self._tell_gone(beyond.gone)
        metrics.drain_lost_lines.labels("backlog").inc(beyond.lines)
        lost = self._position.lost
        if beyond.lines:
            lost = Lost(beyond.lines, int(batch.appended / 1000)).and_also(lost)
        await self._save(replace(self._position, read=beyond.place, lost=lost))
        self._move(beyond.place)
        return True

    # ---- what may fail

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, tried again as long as bus or store are away; they say so themselves."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await ask()
            except NewerFormat:
                raise
            except TROUBLE as error:
                await self._report.away(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _announce(self, text: str | None) -> None:
        """Say something of its troubles, and remember that it was said."""
        if text is not None:
            await self._say(text)
            await self._save(replace(self._position, told=self._trouble.told))

    async def _say(self, text: str | None) -> None:
        if text is not None:
            logger.info("drain %s: %s", self._drain.id, text)
            await self._means.announcer.say(self._app, self._drain.plan, text)

    async def _tell(self, text: str) -> None:
        await self._say(f"Drain {parse(self._drain.url).masked()}: {text}")

    async def _tell_gone(self, gone: str | None) -> None:
        if gone is not None and gone != self._gone:
            self._gone = gone
            await self._tell(gone)
