"""The journal: one sequence of the records of all partitions, in segments on the disk and its newest part in memory.

No threads and no waiting in here: `local` decides who does what when. All is for one thread, except what `Batch.write`
and the jobs that `files` and `sequence` return touch: those may run elsewhere, one `Batch.write` at a time.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from logsvc.bus.protocol import Fetched
from logsvc.bus.records import FENCE, GAP, OVERHEAD, PARTIAL, Record, encode, new_head
from logsvc.bus.segment import DAMAGED, SUFFIX, Segment, SegmentGone, damaged
from logsvc.errors import BusError, ConfigError, OutOfRange
from logsvc.model import Chunk, Cursor, Stream

logger = logging.getLogger(__name__)

TURN: Final = 4096
"""Most records of all partitions read at once: many small ones must not hold up the event loop for long."""


class Fence(NamedTuple):
    """The place of a record that readers skip."""

    partition: int
    offset: int


class Append(NamedTuple):
    """What is to become a record."""

    stream: Stream | None
    """None for a fence."""
    key: bytes
    partition: int
    value: bytes
    origin: bytes
    flags: int

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.key) + len(self.origin) + len(self.value)


@dataclass(slots=True)
class Batch:
    """One write: records with their places, which count once it has succeeded and has landed."""

    appends: Sequence[Append]
    appended: int
    segment: Segment | None
    """Where to; None where it begins a new segment, until `write` has made that."""
    begin: Callable[[], Segment]
    offsets: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    """By partition that it touches, the next offset behind it."""
    pieces: list[bytes] = field(default_factory=list)
    end: int = 0
    """The segment's size behind it."""

    def write(self) -> None:
        """Bring it to the page cache. Raises OSError, and the journal is as it was; BusError where it isn't."""
        if self.segment is None:
            self.segment = self.begin()
        self.end = self.segment.write(self.pieces)


class Recent:
    """The newest records, by their number in the journal; at most about `bound` bytes of them."""

    def __init__(self, bound: int, first: int) -> None:
        self._bound = bound
        self._size = 0
        self.items: list[Chunk | Fence | None] = []
        """Record `n` is at `n - base`; None where it was let go."""
        self.base = first
        self.first = first
        """Number of the oldest record held."""

    def add(self, item: Chunk | Fence) -> None:
        self.items.append(item)
        if type(item) is Chunk:
            self._size += _cost(item)

    def trim(self) -> None:
        items, base = self.items, self.base
        while self._size > self._bound:
            item = items[self.first - base]
            if type(item) is Chunk:
                self._size -= _cost(item)
            items[self.first - base] = None
            self.first += 1
        gone = self.first - base
        if gone > 1024 and gone * 2 > len(items):
            del items[:gone]
            self.base = self.first


def _cost(chunk: Chunk) -> int:
    """About how many bytes of memory it takes; the stream is shared."""
    return len(chunk.value) + len(chunk.origin) + 256


class Journal:
    """The segments of one folder, which nobody else uses."""

    def __init__(self, folder: Path, partitions: int, *, segment_bytes: int, recent_bytes: int) -> None:
        self.epoch = 1
        self.partitions = partitions
        self.segments: list[Segment] = []
        self.next = [0] * partitions
        """By partition, the offset that the next record gets."""
        self.serial = 0
        """How many records there have been since it was opened, those found in it included."""
        self.size = 0
        """Bytes on the disk."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._recent_bytes = recent_bytes
        self._appended = 0
        self._turning = False
        self._recent = Recent(recent_bytes, 0)

    # ---- opening

    def load(self, committed: Sequence[int], *, lost_power: bool) -> None:
        """Find what is there. `committed` are the watermarks; offsets below them are never given out again.

        After a power loss, records that readers have seen may be gone, so their offsets aren't given out again either.
        Raises BusError where the journal is damaged, ConfigError where it has another number of partitions,
        NewerFormat, OSError.
        """
        names = sorted(path.name for path in self._folder.glob("[0-9]" * 12 + f"{SUFFIX}*"))
        given_up = {int(name[:12]) for name in names if name.endswith(DAMAGED)}
        found = [name for name in names if name.endswith(SUFFIX)]
        if given_up:
            logger.warning(
                "the journal in %s goes on without %d segments that were given up", self._folder, len(given_up)
            )
        if lost_power:
            logger.warning("the machine went down while %s was in use: its last lines may be missing", self._folder)
        for name in found:
            segment = Segment.load(self._folder / name, self.serial, last=name == found[-1])
            if segment is None:
                (self._folder / name).unlink()
                break
            self._check(segment, given_up)
            self._add(segment)
            self.serial += len(segment.starts)
            self.next = [segment.end(partition) for partition in range(self.partitions)]
            self.epoch, self._appended = segment.head.epoch, segment.appended
        self._recent = Recent(self._recent_bytes, self.serial)
        last = self.segments[-1].head.sequence if self.segments else -1
        following = [max(pair) for pair in zip(self.next, committed, strict=True)]
        if max(given_up, default=-1) > last or (lost_power and self.segments):
            following = [offset + GAP for offset in following]
        if not self.segments or following != self.segments[-1].ends(self.partitions):
            self.next = following
            sequence = max([last, *given_up]) + 1
            head = new_head(sequence, self.epoch, following, self._appended, jumps=bool(sequence))
            self._add(Segment.create(self._folder, head, self.serial))

    def _check(self, segment: Segment, given_up: set[int]) -> None:
        """That nothing is missing between the segment and the one before."""
        if len(segment.next) != self.partitions:
            raise ConfigError(
                f"the data folder {self._folder} was made with {len(segment.next)} partitions and can't be used with "
                f"{self.partitions}: set that number, or choose another folder"
            )
        if not self.segments:
            return
        before = self.segments[-1].head.sequence
        missing = set(range(before + 1, segment.head.sequence)) - given_up
        if missing:
            raise BusError(
                f"the journal is damaged: {self._folder / f'{min(missing):012d}{SUFFIX}'} is missing. Restore it from "
                f"a backup, or give up what it held: make an empty file of that name with {DAMAGED} behind it"
            )
        jumps = segment.head.jumps or segment.head.sequence > before + 1
        if list(segment.next) != self.next and not (
            jumps and all(begins >= ended for begins, ended in zip(segment.next, self.next, strict=True))
        ):
            raise damaged(self.segments[-1].path, self.segments[-1].size)

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.size += segment.size

    # ---- appending

    def turn(self) -> None:
        """Begin a new segment with the next batch, so that this one can go once it is stored."""
        self._turning = True

    def room(self, limit: int) -> int:
        """About how many bytes the next batch may have: what is left of the newest segment, at most `limit`."""
        left = self._segment_bytes - self.segments[-1].size
        return min(left if left > 0 else self._segment_bytes, limit)

    def batch(self, appends: Sequence[Append], now: int) -> Batch:
        """Give out offsets. There is one batch at a time, and nothing counts before it has landed.

        `now` is the time, Unix ms; where the clock runs backwards, the records take the newest time there was.
        """
        last = self.segments[-1]
        appended = max(self._appended, now)
        full = last.size >= self._segment_bytes or self._turning
        self._turning = False
        head, segment = last.head, last if not full or not last.starts else None
        if segment is None:
            head = new_head(head.sequence + 1, self.epoch, self.next, appended)
        serial = self.serial
        batch = Batch(appends, appended, segment, lambda: Segment.create(self._folder, head, serial))
        ends, offsets, pieces, seed = batch.ends, batch.offsets, batch.pieces, head.seed
        for _, key, partition, value, origin, flags in appends:
            offset = ends.get(partition)
            if offset is None:
                offset = self.next[partition]
            ends[partition] = offset + 1
            offsets.append(offset)
            pieces.append(encode(Record(partition, offset, appended, flags, key, origin, value), seed))
            pieces.append(value)
        return batch

    def begun(self, batch: Batch) -> None:
        """A batch was written, or failed to be: note the segment it may have begun."""
        if batch.segment is not None and batch.segment is not self.segments[-1]:
            self._add(batch.segment)

    def land(self, batch: Batch) -> list[Cursor]:
        """A batch is in the page cache: its records count. Their places, in order."""
        segment = batch.segment
        assert segment is not None
        self.begun(batch)
        start = segment.size
        self.size += batch.end - segment.size
        segment.size = batch.end
        epoch, appended, recent = self.epoch, batch.appended, self._recent
        cursors = []
        for append, offset, piece in zip(batch.appends, batch.offsets, batch.pieces[::2], strict=True):
            stream, _, partition, value, origin, flags = append
            segment.add(partition, start, appended)
            start += len(piece) + len(value)
            if stream is None:
                recent.add(Fence(partition, offset))
            else:
                recent.add(Chunk(epoch, partition, offset, appended, stream, value, origin, bool(flags & PARTIAL)))
            cursors.append(Cursor(epoch, partition, offset, -1))
        for partition, end in batch.ends.items():
            self.next[partition] = end
        self.serial += len(batch.appends)
        self._appended = appended
        recent.trim()
        return cursors

    # ---- reading

    def start(self, partition: int) -> int:
        """The oldest offset kept."""
        return self.segments[0].next[partition]

    def recent(self, partition: int, offset: int, max_bytes: int) -> Fetched | None:
        """What memory holds of a partition from `offset` on; None where the files must be read. Raises OutOfRange."""
        chunks: list[Chunk] = []
        size = 0
        items = self._recent.items
        for segment in self.segments[self._segment_of(partition, offset) :]:
            if offset >= segment.end(partition):
                continue
            numbers = segment.index[partition]
            offset = max(offset, segment.next[partition])
            at = offset - segment.next[partition]
            if segment.first + numbers[at] < self._recent.first:
                return None
            shift = segment.first - self._recent.base
            for position in range(at, len(numbers)):
                item = items[numbers[position] + shift]
                offset += 1
                if type(item) is Chunk:
                    chunks.append(item)
                    size += len(item.value)
                    if size >= max_bytes:
                        return Fetched(partition, chunks, offset)
        return Fetched(partition, chunks, self.next[partition])

    def files(self, partition: int, offset: int, max_bytes: int) -> Callable[[], Fetched]:
        """A job, for any thread, that reads from the files what `recent` doesn't have.

        Raises OutOfRange. The job raises it as well, where the records were deleted meanwhile, and BusError.
        """
        segments = iter(self.segments[self._segment_of(partition, offset) :])
        segment = next(segments)
        while offset >= segment.end(partition):
            segment = next(segments)
        offset = max(offset, segment.next[partition])
        numbers = segment.index[partition]
        spans: list[tuple[int, int]] = []
        size = 0
        for at in range(offset - segment.next[partition], len(numbers)):
            span = segment.span(numbers[at])
            spans.append(span)
            size += span[1] - span[0]
            if size >= max_bytes:
                break

        def job() -> Fetched:
            try:
                items = map(self._item, segment.read(spans))
                chunks = [item for item in items if type(item) is Chunk]
            except SegmentGone:
                raise OutOfRange(partition, offset, self.start(partition), self.next[partition]) from None
            return Fetched(partition, chunks, offset + len(spans))

        return job

    def recent_sequence(self, serial: int, max_bytes: int) -> Sequence[Chunk | Fence] | None:
        """About `max_bytes` of all partitions from record number `serial` on; None where the files must be read."""
        if serial < self._recent.first:
            return None
        items: list[Chunk | Fence] = []
        size = 0
        held = self._recent.items
        begin = serial - self._recent.base
        for number in range(begin, min(len(held), begin + TURN)):
            item = held[number]
            assert item is not None
            items.append(item)
            if type(item) is Chunk:
                size += len(item.value)
                if size >= max_bytes:
                    break
        return items

    def sequence(self, serial: int, max_bytes: int) -> Callable[[], Sequence[Chunk | Fence]]:
        """A job, for any thread, that reads from the files what `recent_sequence` doesn't have. It raises BusError."""
        segment = self.segments[bisect_right(self.segments, serial, key=lambda segment: segment.first) - 1]
        begin = serial - segment.first
        limit = segment.starts[begin] + max_bytes
        end = len(segment.starts) if segment.size <= limit else bisect_right(segment.starts, limit, begin) - 1
        last = max(begin, min(end, begin + TURN) - 1)
        spans = list(pairwise([*segment.starts[begin : last + 1], segment.span(last)[1]]))
        return lambda: [self._item(record) for record in segment.read(spans)]

    def first_unread(self, watermarks: Sequence[int]) -> int:
        """Number of the first record that is not below its partition's watermark."""
        first = self.serial
        for partition, offset in enumerate(watermarks):
            for segment in self.segments[self._segment_of(partition, offset) :]:
                if offset < segment.end(partition):
                    at = max(offset - segment.next[partition], 0)
                    first = min(first, segment.first + segment.index[partition][at])
                    break
        return first

    def _segment_of(self, partition: int, offset: int) -> int:
        """Number of the segment in which `offset` is or would be. Raises OutOfRange."""
        start, end = self.start(partition), self.next[partition]
        if not start <= offset <= end:
            raise OutOfRange(partition, offset, start, end)
        if offset >= self.segments[-1].next[partition]:
            return len(self.segments) - 1
        return bisect_right(self.segments, offset, key=lambda segment: segment.next[partition]) - 1

    def _item(self, record: Record) -> Chunk | Fence:
        partition, offset, appended, flags, key, origin, value = record
        if flags & FENCE:
            return Fence(partition, offset)
        return Chunk(self.epoch, partition, offset, appended, Stream.of(key), value, origin, bool(flags & PARTIAL))

    # ---- deleting

    def drop(self, watermarks: Sequence[int], newest: float) -> list[Segment]:
        """Take out the segments wholly below the watermarks and older than `newest`, Unix ms; their files are there.

        A segment stays until the next one has reached the disk: that one knows the offsets.
        """
        gone: list[Segment] = []
        for segment, following in zip(self.segments, self.segments[1:], strict=False):
            done = all(mark >= end for mark, end in zip(watermarks, following.next, strict=True))
            if not done or segment.appended > newest or not following.synced:
                break
            gone.append(segment)
        del self.segments[: len(gone)]
        self.size -= sum(segment.size for segment in gone)
        return gone

    def close(self) -> None:
        for segment in self.segments:
            segment.close()
