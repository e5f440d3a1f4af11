"""One drain's delivery: from its place in the timeline to its receiver, a frame at a time.

A frame's range is saved before it is sent, and what is sent again is read again from that range. So a try that failed,
a process that was killed and a drain that was changed go on alike: with the same frame, under the same id.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from logsvc import metrics
from logsvc.config import Drains
from logsvc.drains.batches import Batch, BatchReader
from logsvc.drains.model import Drain, Frame, Lost, Position, State, frame_id
from logsvc.drains.notices import Announcer, overflow
from logsvc.drains.outbound import Outbound
from logsvc.drains.policy import Answer, Backoff, Outcome
from logsvc.drains.registry import Share
from logsvc.drains.report import EVERY, Report
from logsvc.drains.senders import sender_of
from logsvc.drains.trouble import Trouble
from logsvc.drains.urls import parse
from logsvc.errors import BadCursor, BusError, NewerFormat
from logsvc.legs import between
from logsvc.model import AppId, Cursor, Selection
from logsvc.selection import Matcher
from logsvc.timeline import Tiers, Timeline
from logsvc.waiting import TROUBLE
from logsvc.window import Feed

T = TypeVar("T")

CROWD: Final = 4
"""Drains that read what isn't in memory at once; the others wait their turn, and those at the end don't notice."""

_OLD: Final = 60.0
"""Seconds that a drain must be behind before anybody counts its lines."""
_COUNT: Final = 300.0
"""Seconds between two counts of the lines that a drain is behind."""
_SAVE: Final = 30.0
"""Seconds after which a place is saved to which nothing was sent."""
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

    def __init__(self, settings: Drains, default: str) -> None:
        """`default` is the plan of those whose own isn't set."""
        self._settings, self._default = settings, default

    def seconds(self, plan: str) -> float | None:
        """Most age of a line that is still delivered."""
        return self._settings.backlog_seconds.get(plan, self._settings.backlog_seconds.get(self._default))

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

    @property
    def settings(self) -> Drains:
        return self.outbound.settings


class Delivery:
    """One drain, from the place that was saved last. Holds one frame."""

    def __init__(self, drain: Drain, share: Share, means: Means) -> None:
        """Raises BadUrl."""
        url = parse(drain.url)
        self._drain, self._share, self._means = drain, share, means
        self._settings = means.settings
        self._app = AppId(drain.tenant, drain.app)
        self._timeline = Timeline(self._app, means.tiers)
        self._matcher = Matcher(drain.filter)
        self._sender = sender_of(url, drain.token, means.outbound)
        self._position = share.position(drain.id) or Position(drain.start)
        self._saved = self._position
        self._saved_at = means.now()
        self._backoff = Backoff(self._settings.pause_first, self._settings.pause_most)
        self._trouble = Trouble(url.masked(), self._settings.announce_seconds)
        self._report = Report(drain, share, self._timeline, means.now)
        self._reader: BatchReader
        self._feed: Feed
        self._watching = AsyncExitStack()
        self._watched = 0
        self._due = 0.0
        self._counted = 0.0

    async def run(self) -> None:
        """Deliver until cancelled. Raises ShareLost or another BusError where a place can't be saved, NewerFormat."""
        try:
            async with self._watching:
                await self._begin()
                if (pending := self._position.pending) is not None:
                    await self._settle(pending, None)
                while True:
                    await self._go_on()
        finally:
            await self._sender.close()
            await self._leave()

    async def _leave(self) -> None:
        """Save that the last frame was taken, so that whoever goes on doesn't send it again."""
        if self._saved.pending is not None and self._position.pending is None:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await self._save(self._position)

    async def _begin(self) -> None:
        at = self._position.settled
        try:
            await self._patiently(lambda: self._timeline.check(at))
        except BadCursor as error:
            logger.warning("drain %s begins anew: %s", self._drain.id, error)
            await self._tell("Lines behind the place where it was can't be found any more: it goes on with the oldest")
            self._position = Position(self._timeline.start, lost=self._position.lost)
        gone = await self._patiently(lambda: self._timeline.forgotten(self._position.settled))
        if gone is not None:
            await self._tell(gone)
        self._move(self._position.settled)
        await self._watch()

    def _move(self, at: Cursor) -> None:
        self._reader = BatchReader(self._timeline, self._matcher, at, self._means.crowd)

    async def _watch(self) -> None:
        """Have the epoch read that the drain is in."""
        await self._watching.aclose()
        at = self._reader.at
        watched = await self._patiently(lambda: self._watching.enter_async_context(self._timeline.watch(at)))
        self._feed, self._watched = watched, at.epoch

    async def _go_on(self) -> None:
        """Send what there is; where there is nothing, wait for more."""
        wakes = self._feed.wakes
        batch = await self._next()
        if batch is None:
            return
        if self._reader.at.epoch > self._watched:
            await self._watch()
        if batch.lines:
            frame = Frame(batch.first, batch.last, frame_id(self._drain.id, batch.first, batch.last),
                          self._position.lost)  # fmt: skip
            await self._save(Position(batch.first, frame))
            await self._settle(frame, batch.selections)
            return
        self._position = Position(batch.last, lost=self._position.lost)
        if self._saved.pending is not None or self._means.now() - self._saved_at >= _SAVE:
            await self._save(self._position)
        await self._report.at_end()
        if self._feed.wakes == wakes and not self._feed.goes_beyond(batch.last):
            await self._feed.changed()

    async def _next(self) -> Batch | None:
        """The lines for the next frame; None where it was found that some are to be left out first."""
        batch = Batch(self._position.settled, self._settings.batch_bytes)
        await self._fill(batch)
        if batch.lines and await self._leave_out(batch):
            return None
        loop = asyncio.get_running_loop()
        if batch.lines and not batch.full and (pause := self._due - loop.time()) > 0:
            await asyncio.sleep(pause)
            await self._fill(batch)
        self._due = loop.time() + self._settings.batch_seconds
        return batch

    async def _fill(self, batch: Batch) -> None:
        await self._patiently(lambda: self._reader.fill(batch))
        while self._reader.lost:
            await self._tell(self._reader.lost.pop(0))

    # ---- sending

    async def _settle(self, frame: Frame, selections: Sequence[Selection] | None) -> None:
        """Send a frame until it is taken or refused. `selections` are what it holds, where that was just read."""
        while True:
            if selections is None:
                selections = await self._patiently(lambda: self._read_again(frame))
            lines = sum(len(selection.numbers) for selection in selections)
            began = self._means.now()
            oldest = selections[0].chunk.appended / 1000 if selections else began
            answer = await self._try(frame, selections)
            metrics.drain_frames.labels(answer.outcome.value).inc()
            if answer.outcome is not Outcome.FAILED:
                break
            selections = None  # it may take long, and there may be many
            self._reader.forget()
            await self._wait(answer, oldest)
        self._backoff.reset()
        if answer.outcome is Outcome.TAKEN:
            self._position = Position(frame.last)
            metrics.drain_delay_seconds.observe(max(0.0, self._means.now() - oldest))
            metrics.drain_lines.inc(lines)
            await self._say(self._trouble.taken())
            if answer.rejected is not None:
                await self._tell(f"The receiver took a frame in part: {answer.rejected}")
            await self._report.delivered(lines, oldest, frame.last)
        else:
            await self._refused(frame, lines, oldest, answer)
        self._move_to(frame.last)

    def _move_to(self, at: Cursor) -> None:
        """Go on behind a frame; one that was just read is behind the reader already."""
        if self._reader.at != at:
            self._move(at)

    async def _try(self, frame: Frame, selections: Sequence[Selection]) -> Answer:
        """Send a frame once; nothing of it may be left: it is past its retention, or the filter is another one."""
        told = [overflow(self._app, frame.lost, selections)] if frame.lost is not None else []
        if not told and not selections:
            return Answer(Outcome.TAKEN, "")
        framed = self._sender.framer.frame([*told, *selections])
        metrics.drain_bytes.inc(len(framed.body))
        with metrics.drain_request_seconds.time():
            return await self._sender.send(frame.id, framed)

    async def _read_again(self, frame: Frame) -> list[Selection]:
        async with self._means.crowd:
            found = between(self._timeline, frame.first, frame.last, self._matcher)
            return [selection async for selection in found]

    async def _wait(self, answer: Answer, oldest: float) -> None:
        loop, now = asyncio.get_running_loop(), self._means.now()
        await self._say(self._trouble.failed(answer, now))
        pause = self._backoff.next(answer.retry_after)
        until = loop.time() + pause
        while (left := until - loop.time()) > 0:
            await self._report.failed(State.RETRYING, answer.words, oldest, self._position.settled, now + pause)
            await asyncio.sleep(min(left, EVERY))

    async def _refused(self, frame: Frame, lines: int, oldest: float, answer: Answer) -> None:
        lost = _more(frame.lost, lines, oldest)
        metrics.drain_lost_lines.labels("refused").inc(lines)
        self._position = Position(frame.last, lost=lost)
        await self._save(self._position)  # what is counted once isn't sent again
        await self._say(self._trouble.refused(answer, lines, self._means.now()))
        await self._report.failed(State.DROPPING, answer.words, oldest, frame.last, None)

    async def _save(self, position: Position) -> None:
        await self._share.save(self._drain.id, position)
        self._position = self._saved = position
        self._saved_at = self._means.now()

    # ---- a drain that is too far behind

    async def _leave_out(self, batch: Batch) -> bool:
        """Skip what is beyond the limits of the plan, counted; whether there was anything."""
        now, plan = self._means.now(), self._drain.plan
        age = now - batch.appended / 1000
        seconds, lines = self._means.backlog.seconds(plan), self._means.backlog.lines(plan)
        target = batch.first
        if seconds is not None and age > seconds:
            since = int((now - seconds * _ROOM) * 1000)
            target = await self._patiently(lambda: self._timeline.appended_since(since, batch.first))
        elif lines is not None and age > _OLD and now - self._counted > _COUNT:
            self._counted = now
            target = max(target, await self._patiently(lambda: self._newest(lines, batch.first)))
        if target <= batch.first:
            return False
        count = await self._patiently(lambda: self._timeline.count(batch.first, target, self._matcher))
        metrics.drain_lost_lines.labels("backlog").inc(count)
        lost = _more(self._position.lost, count, batch.appended / 1000) if count else self._position.lost
        await self._save(Position(target, lost=lost))
        self._move(target)
        return True

    async def _newest(self, lines: int, at: Cursor) -> Cursor:
        """The place to skip to, or `at` where there aren't more than `lines` lines behind it."""
        end = await self._timeline.end()
        if await self._timeline.count(at, end, self._matcher) <= lines:
            return at
        return await self._timeline.place_of_last(int(lines * _ROOM), self._matcher, end)

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

    async def _say(self, text: str | None) -> None:
        if text is not None:
            logger.info("drain %s: %s", self._drain.id, text)
            await self._means.announcer.say(self._app, self._drain.plan, text)

    async def _tell(self, text: str) -> None:
        await self._say(f"Drain {parse(self._drain.url).masked()}: {text}")


def _more(lost: Lost | None, lines: int, since: float) -> Lost:
    return Lost(lines, int(since)) if lost is None else Lost(lost.lines + lines, lost.since)
