"""The store, read in stretches: all at once, and less at a time where that is more than one statement may take.

A filter that hardly anything passes has the store look at all that there is, for which it may not have the time, the
memory, or the leave of the reader's plan. Then the same is asked of ranges of offsets, each an eighth of what was too
much, and larger again where that was quick.
"""

import time
from typing import Final

from logsvc.errors import TooCostly
from logsvc.model import AppId, Cursor, Filter
from logsvc.store.protocol import Page, StoreReader

_SHORTER: Final = 8
_QUICK: Final = 0.5
"""Seconds within which a range was so easily looked at that the next one may be twice as long."""


class Stretches:
    """Of one app, for one reader."""

    def __init__(self, app: AppId, store: StoreReader) -> None:
        self._app, self._store = app, store
        self._most: int | None = None
        """Most records of the bus in a range; None for all there are."""
        self._firsts: dict[int, Cursor | None] = {}
        """The oldest line of an epoch."""

    async def after(self, at: Cursor, below: int, wanted: Filter, lines: int) -> tuple[Page, int]:
        """As StoreReader.after, perhaps not up to `below`: the offset below which it has looked.

        Raises TooCostly where one record is too much.
        """
        while True:
            end, begun = below, time.monotonic()
            if self._most is not None:
                end = min(below, await self._first(at) + self._most)
            try:
                page = await self._store.after(self._app, at, end, wanted, lines)
            except TooCostly:
                if not self._shorten(end - await self._first(at)):
                    raise
            else:
                self._lengthen(begun)
                return page, end

    async def before(self, before: Cursor, wanted: Filter, lines: int) -> tuple[Page, Cursor | None]:
        """As StoreReader.before, perhaps not all of it: the place in front of which it has not looked, if any.

        Raises TooCostly where one record is too much, and where that is in an epoch before that of `before`.
        """
        while True:
            floor, begun = None, time.monotonic()
            if self._most is not None and before.offset > (first := await self._first(before._replace(offset=0))):
                floor = max(first, before.offset + 1 - self._most)
            try:
                page = await self._store.before(self._app, before, wanted, lines, floor)
            except TooCostly:
                if not self._shorten(before.offset + 1 - (floor or await self._first(before._replace(offset=0)))):
                    raise
            else:
                self._lengthen(begun)
                return page, None if floor is None else Cursor(before.epoch, before.partition, floor, -1)

    async def _first(self, at: Cursor) -> int:
        """The offset from which on there is anything behind `at`."""
        if at.epoch not in self._firsts:
            self._firsts[at.epoch] = await self._store.first(self._app, at.epoch)
        oldest = self._firsts[at.epoch]
        return at.offset if oldest is None else max(at.offset, oldest.offset)

    def _shorten(self, records: int) -> bool:
        """Have the next range be shorter than one of so many records, if that can be."""
        if self._most is not None and records <= 1:
            return False
        self._most = max(1, records // _SHORTER)
        return True

    def _lengthen(self, begun: float) -> None:
        if self._most is not None and time.monotonic() - begun < _QUICK:
            self._most *= 2
