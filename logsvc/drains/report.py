"""What a drain's delivery says of itself, for `drains:status`: on a change of state, else now and then."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from logsvc.drains.model import Drain, DrainStatus, State
from logsvc.drains.registry import Share
from logsvc.errors import BusError, LogsvcError, StoreError
from logsvc.model import EVERYTHING, Cursor
from logsvc.selection import Matcher
from logsvc.timeline import Timeline

EVERY: Final = 20.0
"""Seconds between two reports of the same state. Nobody delivers a drain that hasn't been heard of for longer."""
_COUNT: Final = 60.0
"""Seconds between two counts of what a drain has not got yet."""
_RATE: Final = 60.0
"""Seconds over which a rate is told."""
_BEHIND: Final = 5.0
"""Seconds that a line may be old when it is delivered, so that it is at the end still."""


class Report:
    """Of one drain. Raises what `Share.report` does."""

    def __init__(self, drain: Drain, share: Share, timeline: Timeline, now: Callable[[], float]) -> None:
        self._drain, self._share, self._timeline, self._now = drain, share, timeline, now
        self._state = State.STARTING
        self._reported = self._counted = 0.0
        self._lines = self._told = self._lag_lines = 0
        self._begun, self._begun_lines = now(), 0
        """Since when the rate is told, and after how many lines."""
        self._error = ""
        self._error_at: float | None = None

    async def at_end(self) -> None:
        """Everything there is was delivered."""
        self._lag_lines = 0
        await self._tell(State.DELIVERING)

    async def delivered(self, lines: int, oldest: float, at: Cursor) -> None:
        """A frame was taken; the bus took its first line at `oldest` (Unix s)."""
        self._lines += lines
        age = self._now() - oldest
        if age < _BEHIND:
            return  # it will be at the end soon
        await self._count(at)
        await self._tell(State.DELIVERING, age)

    async def failed(self, state: State, words: str, oldest: float, at: Cursor, retry_at: float | None) -> None:
        """A try failed; everything up to `at` is delivered, and the next line was written at `oldest`."""
        self._fail(f"The receiver {words}.")
        await self._count(at)
        await self._tell(state, max(0.0, self._now() - oldest), retry_at, news=True)

    async def away(self, error: LogsvcError) -> None:
        """The log can't be read now."""
        self._fail(f"The log can't be read now: {error}")
        with suppress(BusError):  # likely what is away
            await self._tell(self._state)

    def _fail(self, words: str) -> None:
        self._error, self._error_at = words, self._now()

    async def _count(self, at: Cursor) -> None:
        if self._now() - self._counted < _COUNT:
            return
        self._counted = self._now()
        with suppress(BusError, StoreError):  # then it is told the next time
            end = await self._timeline.end()
            self._lag_lines = await self._timeline.count(at, end, Matcher(EVERYTHING))

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
