"""One file of the journal. See `records` for what is in it."""

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, Self

from logsvc.bus.records import BLOCK, Head, Record, decode, places, sound_record_behind
from logsvc.errors import BusError

SUFFIX: Final = ".journal"
DAMAGED: Final = ".damaged"
"""Added to a segment's name by an operator who gives up what is in it."""

_IOV_MAX: Final = os.sysconf("SC_IOV_MAX")


class SegmentGone(Exception):
    """The segment was deleted before it could be read."""


class Segment:
    """One file of the journal, and in memory where each of its records stands.

    `places` and `index` belong to the event loop's thread; `write` is called by one thread at a time, `read` by any.
    """

    def __init__(self, path: Path, fd: int, head: Head, first: int, size: int) -> None:
        self.path, self.fd, self.head = path, fd, head
        self.next = head.next
        self.first = first
        """Number of its first record, counted over the whole journal since it was opened."""
        self.size = size
        self.starts = array("I")
        """By record, the byte where it starts."""
        self.index: dict[int, array[int]] = {}
        """By partition, which of the records are its own; offsets are dense, so this is in order of offset."""
        self.appended = head.appended
        """When its newest record was appended, Unix ms."""
        self.synced = False
        """Whether the head has reached the disk."""
        self._lock = Lock()
        self._pins = 0
        self._gone = False

    @classmethod
    def create(cls, folder: Path, head: Head, first: int) -> Self:
        """Make the file of a new segment. Raises OSError, and leaves no file then."""
        path = folder / f"{head.sequence:012d}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        segment = cls(path, fd, head, first, 0)
        try:
            segment.size = segment.write([head.encode()])
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return segment

    @classmethod
    def load(cls, path: Path, first: int, *, last: bool) -> Self | None:
        """Open a segment and find its records; cut off a torn end where it is the `last` one.

        None where the last one has not even a whole head: it never held a record. Raises BusError where bytes that
        were once written are damaged or missing.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            segment = cls._replayed(path, fd, first, last=last)
        except BaseException:
            os.close(fd)
            raise
        if segment is None:
            os.close(fd)
        return segment

    @classmethod
    def _replayed(cls, path: Path, fd: int, first: int, *, last: bool) -> Self | None:
        decoded = Head.decode(os.pread(fd, BLOCK, 0))
        if decoded is None:
            if last and Head.begins(os.pread(fd, BLOCK, 0)):
                return None
            raise damaged(path, 0)
        head, at = decoded
        if path.name != f"{head.sequence:012d}{SUFFIX}":
            raise damaged(path, 0)
        segment = cls(path, fd, head, first, at)
        segment._replay(last=last)
        return segment

    def _replay(self, *, last: bool) -> None:
        end = os.fstat(self.fd).st_size
        while self.size < end:
            block = os.pread(self.fd, BLOCK, self.size)
            found = 0
            for place in places(block, self.head.seed):
                if place.offset != self.end(place.partition):
                    raise damaged(self.path, self.size + place.start)
                self.add(place.partition, self.size + place.start, place.appended)
                found = place.end
            if not found:
                self._cut(end, last=last)
                return
            self.size += found

    def _cut(self, end: int, *, last: bool) -> None:
        rest = os.pread(self.fd, end - self.size, self.size)
        if not last or sound_record_behind(rest, self.head.seed, 1) is not None:
            raise damaged(self.path, self.size)
        os.ftruncate(self.fd, self.size)

    def add(self, partition: int, start: int, appended: int) -> None:
        """Note the next record, which starts at byte `start`."""
        numbers = self.index.get(partition)
        if numbers is None:
            numbers = self.index[partition] = array("I")
        numbers.append(len(self.starts))
        self.starts.append(start)
        self.appended = appended

    def end(self, partition: int) -> int:
        """The offset behind the partition's last record in here."""
        return self.next[partition] + len(self.index.get(partition, ()))

    def ends(self, partitions: int) -> list[int]:
        return [self.end(partition) for partition in range(partitions)]

    def span(self, number: int) -> tuple[int, int]:
        """First byte, and the byte behind the last, of a record."""
        starts = self.starts
        return starts[number], starts[number + 1] if number + 1 < len(starts) else self.size

    def write(self, pieces: Sequence[bytes]) -> int:
        """Write bytes behind `size` and return the new size, which the caller sets once it has noted the records.

        Raises OSError, and the file is as it was before then; BusError where even that is impossible.
        """
        at = self.size
        try:
            for group in range(0, len(pieces), _IOV_MAX):
                at = _write_all(self.fd, pieces[group : group + _IOV_MAX], at)
        except OSError:
            try:
                os.ftruncate(self.fd, self.size)
            except OSError as error:
                raise BusError(f"{self.path} can't be brought back to what it was: {error.strerror}") from error
            raise
        return at

    def read(self, spans: Sequence[tuple[int, int]]) -> list[Record]:
        """The records at `spans` (ascending), be they side by side or far apart.

        Raises SegmentGone; BusError where the file no longer holds what was written.
        """
        found = []
        with self._pinned() as fd:
            for start, end, members in _runs(spans):
                buffer = os.pread(fd, end - start, start)
                for member_start, member_end in members:
                    record = decode(buffer, member_start - start, member_end - start, self.head.seed)
                    if record is None:
                        raise damaged(self.path, member_start)
                    found.append(record)
        return found

    def sync(self) -> None:
        """Bring everything written so far to the disk. Raises OSError."""
        try:
            with self._pinned() as fd:
                os.fdatasync(fd)
        except SegmentGone:
            return
        if not self.synced:
            sync_folder(self.path.parent)
        self.synced = True

    def unlink(self) -> None:
        """Delete the file; whoever is reading it may finish."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        with self._lock:
            if not self._gone and not self._pins:
                os.close(self.fd)
            self._gone = True

    @contextmanager
    def _pinned(self) -> Iterator[int]:
        with self._lock:
            if self._gone:
                raise SegmentGone
            self._pins += 1
        try:
            yield self.fd
        finally:
            with self._lock:
                self._pins -= 1
                if self._gone and not self._pins:
                    os.close(self.fd)


def files(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def sync_folder(folder: Path) -> None:
    """Bring to the disk which files there are. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, pieces: Sequence[bytes], at: int) -> int:
    total = sum(map(len, pieces))
    done = os.pwritev(fd, pieces, at)
    if done < total:
        rest = memoryview(b"".join(pieces))
        while done < total:
            done += os.pwrite(fd, rest[done:], at + done)
    return at + total


def _runs(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Group spans into reads: a gap of up to 32 KiB is cheaper read than left out."""
    start, end = spans[0]
    members: list[tuple[int, int]] = []
    for span in spans:
        if span[0] - end > 32 * 1024:
            yield start, end, members
            start, members = span[0], []
        members.append(span)
        end = span[1]
    yield start, end, members


def damaged(path: Path, at: int) -> BusError:
    """What to say, and what to do, where a segment doesn't hold what was written."""
    return BusError(
        f"the journal is damaged: {path} at byte {at} is not what was written there. Restore the file from a backup, "
        f"or give up the lines in it that the store has not taken yet: rename it to {path.name}{DAMAGED}"
    )
