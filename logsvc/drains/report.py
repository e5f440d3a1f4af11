"""What a drain's delivery says of itself, for `drains:status`: on a change of state, else now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from logsvc.drains.model import Drain, DrainStatus, Position, State
from logsvc.drains.registry import Share
from logsvc.errors import BusError, LogsvcError, StoreError
from logsvc.model import EVERYTHING
from logsvc.selection import Matcher
from logsvc.timeline import Timeline

EVERY: Final = 20.0
"""Seconds between two reports of the same state. Nobody delivers a drain that hasn't been heard of for longer."""
_COUNT: Final = 60.0
"""Seconds between two counts of what a drain has not got yet."""
_REST: Final = 20
"""How many times as long as a count took there is none."""
_RATE: Final = 60.0
"""Seconds over which a rate is told."""
_BEHIND: Final = 5.0
"""Seconds that a line may be old when it is delivered, so that it is at the end still."""


class Counting:
    """The counts of a process: one at a time, and only for so much of the time.

    When a process falls behind, all of its drains want to be counted at once. The store would do nothing else then, and
    they would fall behind all the more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy = False
        self._after = clock()

    @property
    def free(self) -> bool:
        """Whether it is somebody's turn. Who gets none doesn't wait for it."""
        return not self._busy and self._clock() >= self._after

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Count in the block."""
        self._busy, began = True, self._clock()
        try:
            yield
        finally:
            self._busy, self._after = False, self._clock() + (self._clock() - began) * _REST


class Report:
    """Of one drain. Raises what `Share.report` does."""

    def __init__(
        self, drain: Drain, share: Share, timeline: Timeline, counting: Counting, now: Callable[[], float]
    ) -> None:
        self._drain, self._share, self._timeline, self._now = drain, share, timeline, now
        self._counting = counting
        self._state = State.STARTING
        self._reported = self._counted = 0.0
        self._lines = self._told = self._lag_lines = 0
        self._begun, self._begun_lines = now(), 0
        """Since when the rate is told, and after how many lines."""
        self._error = ""
        self._error_at: float | None = None

    async def at_end(self) -> None:
        """Everything there is was delivered, but for what has just come."""
        self._lag_lines = 0
        await self._tell(State.DELIVERING)

    async def delivered(self, lines: int, oldest: float, position: Position, *, failing: bool) -> None:
        """A frame was taken; the bus took its first line at `oldest` (Unix s). `failing`: another one is not taken."""
        self._lines += lines
        age = self._now() - oldest
        if failing:
            return  # that is told
        if age < _BEHIND:
            await self.at_end()  # a busy drain never finds nothing more to send, and nobody else says how it does
            return
        await self._count(position)
        await self._tell(State.DELIVERING, age)

    async def failed(self, state: State, words: str, oldest: float, position: Position, retry_at: float | None) -> None:
        """A try of a frame failed, of which the first line was written at `oldest`."""
        self._fail(f"The receiver {words}.")
        await self._count(position)
        await self._tell(state, max(0.0, self._now() - oldest), retry_at, news=True)

    def rejected(self, words: str) -> None:
        """A part of a frame was not taken: told with what comes next."""
        self._fail(f"The receiver {words}.")

    async def away(self, error: LogsvcError) -> None:
        """The log can't be read now."""
        self._fail(f"The log can't be read now: {error}")
        with suppress(BusError):  # likely what is away
            await self._tell(self._state)

    def _fail(self, words: str) -> None:
        self._error, self._error_at = words, self._now()

    async def _count(self, position: Position) -> None:
        if self._now() - self._counted < _COUNT or not self._counting.free:
            return
        self._counted = self._now()
        with self._counting.turn(), suppress(BusError, StoreError):  # then it is told the next time
            ranges = [(frame.first, frame.last) for frame in position.pending]
            ranges.append((position.read, await self._timeline.end()))
            everything = Matcher(EVERYTHING)
            self._lag_lines = sum([await self._timeline.count(*place, everything) for place in ranges])

    async def _tell(self, state: State, age: float = 0.0, retry_at: float | None = None, *, news: bool = False) -> None:
        now = self._now()
        # Who has just added a drain looks whether anything comes.
        news = news or state is not self._state or (self._lines > 0 and not self._told)
        if not news and now - self._reported < EVERY:
            return
        self._state, self._reported, self._told = state, now, self._lines
        status = DrainStatus(
            state, now, self._lag_lines, age, self._lines, self._rate(now), self._error, self._error_at, retry_at
        )
        await self._share.report(self._drain.id, status)

    def _rate(self, now: float) -> float:
        seconds, lines = now - self._begun, self._lines - self._begun_lines
        if seconds >= _RATE:
            self._begun, self._begun_lines = now, self._lines
        return lines / seconds if seconds >= 1 else float(lines)
