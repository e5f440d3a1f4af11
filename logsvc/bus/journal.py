"""The journal's files: one sequence of records, cut into segments. Format and files only; `local` is the bus.

A segment is `<sequence, 12 digits>.journal`: a head, then records, little-endian and without padding between them.

    head     8s magic, I version, I length of the JSON, I CRC-32 of the JSON, JSON
    record   4s magic, I CRC-32 of all that follows, seeded with the segment's seed,
             I value bytes, Q offset, Q appended (Unix ms), I key bytes, I origin bytes, H partition, B flags, x,
             key, origin, value

The head's JSON holds the epoch, the seed and, for each partition, the offset of its first record from here on, so
that a journal without records still knows its next offsets. The seed is random: nobody who writes log lines can
forge bytes that look like a record of this segment.
"""

import os
import secrets
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Final, NamedTuple, Self
from zlib import crc32

import orjson

from logsvc.errors import BusError, NewerFormat

VERSION: Final = 1
FENCE: Final = 1
"""Flag: a record that readers skip."""
PARTIAL: Final = 2
"""Flag: the chunk's `partial`."""

MAX_KEY: Final = 64 * 1024
MAX_ORIGIN: Final = 1024 * 1024
BLOCK: Final = 4 * 1024 * 1024
"""How much is read at once; larger than any record."""

_HEAD: Final = Struct("<8sIII")
_HEAD_MAGIC: Final = b"LOGSVCJ\n"
_MAGIC: Final = b"\xf5LR\n"
_MARK: Final = Struct("<4sI")
_BODY: Final = Struct("<IQQIIHBx")
_RECORD: Final = Struct("<4sIIQQIIHBx")
OVERHEAD: Final = _RECORD.size
"""Bytes of a record besides key, origin and value."""

_IOV_MAX: Final = os.sysconf("SC_IOV_MAX")
_SUFFIX: Final = ".journal"


class Record(NamedTuple):
    """One record, as it stands in a segment."""

    partition: int
    offset: int
    appended: int
    flags: int
    key: bytes
    origin: bytes
    value: bytes


class Place(NamedTuple):
    """Where a record stands in a buffer, and which one it is."""

    start: int
    end: int
    partition: int
    offset: int
    appended: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a segment says of itself."""

    sequence: int
    epoch: int
    seed: int
    next: tuple[int, ...]
    """By partition, the offset of its first record in this segment or a later one."""
    appended: int
    """No record from here on is older than this, Unix ms."""

    def encode(self) -> bytes:
        body = orjson.dumps(self)
        return _HEAD.pack(_HEAD_MAGIC, VERSION, len(body), crc32(body)) + body

    @classmethod
    def decode(cls, buffer: bytes) -> tuple[Self, int] | None:
        """The head and its length in bytes; None where `buffer` doesn't start with a whole one. Raises NewerFormat."""
        if len(buffer) < _HEAD.size:
            return None
        magic, version, length, check = _HEAD.unpack_from(buffer)
        if magic != _HEAD_MAGIC:
            return None
        if version > VERSION:
            raise NewerFormat(f"the journal has format {version} and was written by a newer logsvc: start that one")
        body = buffer[_HEAD.size : _HEAD.size + length]
        if len(body) < length or crc32(body) != check:
            return None
        fields = orjson.loads(body)
        fields["next"] = tuple(fields["next"])
        return cls(**fields), _HEAD.size + length


def encode(record: Record, seed: int) -> bytes:
    """A record's bytes up to its value, which follows as it is."""
    partition, offset, appended, flags, key, origin, value = record
    body = _BODY.pack(len(value), offset, appended, len(key), len(origin), partition, flags) + key + origin
    return _MARK.pack(_MAGIC, crc32(value, crc32(body, seed))) + body


def decode(buffer: bytes, start: int) -> Record:
    """The record at `start` of a buffer that `places` found to be sound."""
    _, _, length, offset, appended, key, origin, partition, flags = _RECORD.unpack_from(buffer, start)
    at_key = start + OVERHEAD
    at_origin = at_key + key
    at_value = at_origin + origin
    return Record(
        partition,
        offset,
        appended,
        flags,
        buffer[at_key:at_origin],
        buffer[at_origin:at_value],
        buffer[at_value : at_value + length],
    )


def places(buffer: bytes, seed: int, start: int = 0) -> Iterator[Place]:
    """The sound records of `buffer` from `start` on, up to the first that is cut or damaged."""
    view = memoryview(buffer)
    size = len(buffer)
    while start + OVERHEAD <= size:
        magic, check, length, offset, appended, key, origin, partition, _ = _RECORD.unpack_from(buffer, start)
        end = start + OVERHEAD + key + origin + length
        if magic != _MAGIC or end > size or crc32(view[start + _MARK.size : end], seed) != check:
            return
        yield Place(start, end, partition, offset, appended)
        start = end


def sound_record_behind(buffer: bytes, seed: int, start: int) -> int | None:
    """Where, from `start` on, the first sound record stands: proof that what is before it is not just a torn end."""
    while (start := buffer.find(_MAGIC, start)) >= 0:
        if next(places(buffer, seed, start), None) is not None:
            return start
        start += 1
    return None


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
        path = folder / f"{head.sequence:012d}{_SUFFIX}"
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
            if last and os.fstat(fd).st_size < BLOCK:
                return None
            raise _damaged(path, 0)
        head, at = decoded
        if path.name != f"{head.sequence:012d}{_SUFFIX}":
            raise _damaged(path, 0)
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
                    raise _damaged(self.path, self.size + place.start)
                self.add(place.partition, self.size + place.start, place.appended)
                found = place.end
            if not found:
                self._cut(end, last=last)
                return
            self.size += found

    def _cut(self, end: int, *, last: bool) -> None:
        rest = os.pread(self.fd, end - self.size, self.size)
        if not last or sound_record_behind(rest, self.head.seed, 1) is not None:
            raise _damaged(self.path, self.size)
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

    def span(self, number: int) -> tuple[int, int]:
        """First byte, and the byte behind the last, of a record."""
        starts = self.starts
        return starts[number], starts[number + 1] if number + 1 < len(starts) else self.size

    def write(self, pieces: Sequence[bytes]) -> int:
        """Write bytes behind `size` and return the new size, which the caller sets once it has noted the records.

        Raises OSError, and the file is as it was before then.
        """
        at = self.size
        try:
            for group in range(0, len(pieces), _IOV_MAX):
                at = _write_all(self.fd, pieces[group : group + _IOV_MAX], at)
        except OSError:
            os.ftruncate(self.fd, self.size)
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
                    place = next(places(buffer, self.head.seed, member_start - start), None)
                    if place is None or place.end != member_end - start:
                        raise _damaged(self.path, member_start)
                    found.append(decode(buffer, place.start))
        return found

    def sync(self) -> None:
        """Bring everything written so far to the disk. Raises OSError."""
        try:
            with self._pinned() as fd:
                os.fdatasync(fd)
        except SegmentGone:
            return
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


def new_head(sequence: int, epoch: int, following: Sequence[int], appended: int) -> Head:
    """The head of a segment that begins now."""
    return Head(sequence, epoch, secrets.randbits(32), tuple(following), appended)


def files(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


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


def _damaged(path: Path, at: int) -> BusError:
    return BusError(
        f"the journal is damaged: {path} at byte {at} is not what was written there. Restore the file from a backup, "
        f"or move the whole folder {path.parent} away to begin with an empty one; the store keeps what it has."
    )
