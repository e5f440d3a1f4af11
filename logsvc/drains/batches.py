"""An app's lines in batches, each a frame's worth: a reader of a timeline that goes forward."""

import asyncio
from collections import deque

from logsvc.model import Cursor, Selection
from logsvc.selection import Matcher
from logsvc.timeline import Timeline


class Batch:
    """Lines for one frame: what passes of everything behind `first`, up to and including `last`."""

    def __init__(self, first: Cursor, most: int) -> None:
        """`most`: about the most bytes of lines; one line may be more."""
        self.first = self.last = first
        self.selections: list[Selection] = []
        self.lines = 0
        self._room = most

    @property
    def full(self) -> bool:
        return self._room <= 0

    @property
    def appended(self) -> int:
        """When the bus took the first line, Unix ms."""
        return self.selections[0].chunk.appended

    def take(self, selection: Selection) -> Selection | None:
        """Put in as many lines as there is room for, at least one; the others."""
        taken, rest = cut(selection, self._room)
        self.selections.append(taken)
        self.lines += len(taken.numbers)
        self.last = taken.chunk.cursor(taken.numbers[-1])
        self._room -= len(taken.value)
        if rest is not None:
            self._room = 0
        return rest


def cut(selection: Selection, room: int) -> tuple[Selection, Selection | None]:
    """The first lines of a selection, at least one and else no more than `room` bytes of them; and the others."""
    chunk, value, numbers = selection
    if len(value) <= room:
        return selection, None
    end = value.rfind(b"\n", 0, max(room, 0)) + 1 or value.index(b"\n") + 1
    if end == len(value):
        return selection, None
    lines = value.count(b"\n", 0, end)
    return Selection(chunk, value[:end], numbers[:lines]), Selection(chunk, value[end:], numbers[lines:])


class BatchReader:
    """Reads a timeline step by step. Holds what is left of one step."""

    def __init__(self, timeline: Timeline, matcher: Matcher, at: Cursor, crowd: asyncio.Semaphore) -> None:
        """`crowd` bounds how many readers of a process read what isn't in memory at once."""
        self._timeline, self._matcher, self._crowd = timeline, matcher, crowd
        self.at = at
        """Everything up to here was handed out."""
        self.lost: list[str] = []
        """Sentences about lines that are gone, for whoever reads to tell of and clear."""
        self._left: deque[Selection] = deque()
        self._behind = at
        """The place behind what is left."""

    async def fill(self, batch: Batch) -> None:
        """Put in what there is now, until the batch is full. Raises BusError, StoreError; what is in it stays."""
        while not batch.full:
            if self._left:
                self._take(batch)
                continue
            step = await self._read()
            if step == self.at:
                return
            await asyncio.sleep(0)  # a turn for the others, however much there is to read
            if not self._left:
                self.at = batch.last = step

    def _take(self, batch: Batch) -> None:
        rest = batch.take(self._left.popleft())
        if rest is not None:
            self._left.appendleft(rest)
        if not self._left:
            batch.last = self._behind
        self.at = batch.last

    async def _read(self) -> Cursor:
        """One step on; the place behind it."""
        if self._timeline.in_window(self.at):
            step = await self._timeline.read(self.at, self._matcher)
        else:
            async with self._crowd:
                step = await self._timeline.read(self.at, self._matcher)
        self._left.extend(step.selections)
        self._behind = step.at
        if step.lost is not None:
            self.lost.append(step.lost)
        return step.at

    def forget(self) -> None:
        """Hold nothing; it is read again."""
        self._left.clear()
        self._behind = self.at
