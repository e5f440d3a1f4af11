"""The bus of one machine: a journal in a folder, used by one process. See `journal` for the format.

What is appended is in the page cache before anybody sees it, so it survives the end of the process, however that
comes; it is on the disk `sync_interval` later, so a power loss may take that much.

All state is the event loop's. One thread writes, so a slow disk holds up appends and not the loop; two read, for
those who are behind what memory holds; one syncs. One write is in flight at a time, and what is appended meanwhile
goes into the next.
"""

import asyncio
import errno
import fcntl
import os
import time
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

import orjson

from logsvc.bus.journal import (
    FENCE,
    MAX_KEY,
    MAX_ORIGIN,
    OVERHEAD,
    PARTIAL,
    Record,
    Segment,
    SegmentGone,
    encode,
    files,
    new_head,
)
from logsvc.bus.local_readers import Fence, LocalGroup, LocalLive
from logsvc.bus.protocol import Bounds, Fetched
from logsvc.errors import BusError, ConfigError, OutOfRange
from logsvc.model import MAX_CHUNK, Chunk, Cursor, Origin, Stream

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Most bytes in one write."""

MAX_READ: Final = 8 * 1024 * 1024
"""Most bytes of values that one read returns, whatever it asks for (or one record)."""

_CHUNK_COST: Final = 256
"""About how many bytes a chunk takes in memory besides its value."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How a journal keeps what it is given."""

    segment_bytes: int = 64 * 1024 * 1024
    """A new file is begun when one is this large. Space comes back by whole files."""
    max_bytes: int = 4 * 1024 * 1024 * 1024
    """Most bytes on the disk. When the store is away until the journal is this large, appends are refused."""
    recent_bytes: int = 16 * 1024 * 1024
    """Most bytes of the newest chunks kept in memory for those who read at the end."""
    sync_interval: float = 1.0
    """Seconds until what was appended is on the disk: what a power loss may take."""
    hold_back: float = 10.0
    """Seconds for which a file stays though the store has all of it, for live readers that are a little behind."""


class _Append(NamedTuple):
    stream: Stream | None
    """None for a fence."""
    key: bytes
    partition: int
    value: bytes
    origin: bytes
    flags: int
    done: asyncio.Future[Cursor]

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.key) + len(self.origin) + len(self.value)


@dataclass(slots=True)
class _Batch:
    """One write: records with their places, which count once the write has succeeded."""

    appends: list[_Append]
    segment: Segment | None
    """Where to; None where a new segment is begun."""
    appended: int
    sequence: int
    offsets: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    end: int = 0
    """The segment's size behind it."""


class LocalBus:
    """A `Bus` in a folder. Made by `open`."""

    def __init__(self, folder: Path, partitions: int, settings: LocalSettings, clock: Callable[[], float]) -> None:
        self.partitions = partitions
        self.epoch = 1
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._segments: list[Segment] = []
        self._next = [0] * partitions
        self._committed: dict[int, int] = {}
        self._bytes = 0
        self.serial = 0
        """How many records the journal has had since it was opened, those found in it included."""
        self._appended = 0
        # The newest records in journal order; number `n` is at `n - self._recent_base`. None: let go.
        self._recent: list[Chunk | Fence | None] = []
        self._recent_base = 0
        self._recent_first = 0
        self._recent_size = 0
        self._pending: deque[_Append] = deque()
        self._writing: _Batch | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._broken: BusError | None = None
        self._unsynced: set[Segment] = set()
        self._sync_timer: asyncio.TimerHandle | None = None
        self._commits = asyncio.Lock()
        self._live: set[LocalLive] = set()
        self._group: LocalGroup | None = None
        self._writer = ThreadPoolExecutor(1, "journal-write")
        self._syncer = ThreadPoolExecutor(1, "journal-sync")
        self._pool = ThreadPoolExecutor(2, "journal-read")
        self._identify = lru_cache(maxsize=1 << 16)(self._identity)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        partitions: int = 64,
        settings: LocalSettings = LocalSettings(),
        clock: Callable[[], float] = time.time,
    ) -> AsyncIterator[Self]:
        """Use the journal in `folder`, which is made where it isn't there; closed at the end of the block.

        Raises ConfigError where the folder can't be used: another process has it, rights are missing, it was made
        with another number of partitions. Raises BusError where the journal is damaged, NewerFormat where a newer
        logsvc wrote it.
        """
        bus = cls(folder, partitions, settings, clock)
        try:
            lock = await asyncio.to_thread(_lock, folder)
            try:
                await asyncio.to_thread(bus._load)
                yield bus
            finally:
                await bus.close()
                os.close(lock)
        finally:
            for pool in (bus._writer, bus._syncer, bus._pool):
                pool.shutdown()

    # ---- opening

    def _load(self) -> None:
        found = files(self._folder)
        for path in found:
            segment = Segment.load(path, self.serial, last=path == found[-1])
            if segment is None:
                path.unlink()
                break
            self._segments.append(segment)
            self._check(segment)
            self.serial += len(segment.starts)
            self._bytes += segment.size
        self._committed = _read_watermarks(self._folder)
        if self._segments:
            last = self._segments[-1]
            self.epoch = last.head.epoch
            self._appended = last.appended
            self._next = [last.end(partition) for partition in range(self.partitions)]
        self._recent_base = self._recent_first = self.serial
        behind = {p: offset for p, offset in self._committed.items() if offset > self._next[p]}
        if behind or not self._segments:
            # The store is ahead of the journal after a power loss: an offset is never used again.
            for partition, offset in behind.items():
                self._next[partition] = offset
            sequence = self._segments[-1].head.sequence + 1 if self._segments else 0
            self._add_segment(
                Segment.create(self._folder, new_head(sequence, self.epoch, self._next, self._appended), self.serial)
            )

    def _check(self, segment: Segment) -> None:
        if len(segment.next) != self.partitions:
            raise ConfigError(
                f"the data folder {self._folder} was made with {len(segment.next)} partitions and can't be used with "
                f"{self.partitions}: set that number, or choose another folder"
            )
        if len(self._segments) > 1:
            before = self._segments[-2]
            if segment.head.sequence != before.head.sequence + 1 or any(
                segment.next[p] < before.end(p) for p in range(self.partitions)
            ):
                raise BusError(f"the journal is damaged: {segment.path} does not follow {before.path}")

    def _add_segment(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._bytes += segment.size

    # ---- appending

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        """See `Bus.append`. Raises ValueError where the value is larger than MAX_CHUNK; BusError where the journal
        or the disk is full, and works again once there is space.
        """
        if len(value) > MAX_CHUNK:
            raise ValueError(f"a chunk of {len(value)} bytes; at most {MAX_CHUNK}")
        header = origin.header() if origin is not None else b""
        key, partition = self._identify(stream)
        if len(header) > MAX_ORIGIN:
            raise ValueError(f"an origin of {len(header)} bytes; at most {MAX_ORIGIN}")
        if self._bytes + len(value) > self._settings.max_bytes:
            self._drop_segments(full=True)
            if self._bytes + len(value) > self._settings.max_bytes:
                raise BusError(
                    f"the journal is full: it holds {self._bytes} bytes that the store has not taken yet; "
                    f"it goes on when the store does"
                )
        done = self._loop.create_future()
        self._submit(_Append(stream, key, partition, value, header, PARTIAL if partial else 0, done))
        return await done

    async def fence(self, partition: int) -> int:
        """See `Bus.fence`. Raises BusError."""
        self._check_partition(partition)
        done = self._loop.create_future()
        self._submit(_Append(None, b"", partition, b"", b"", FENCE, done))
        return (await done).offset

    def _submit(self, append: _Append) -> None:
        if self._broken is not None:
            raise BusError(str(self._broken)) from self._broken
        if self._closed:
            raise BusError("the bus is closed")
        self._bytes += append.size
        self._pending.append(append)
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._write_pending)

    def _identity(self, stream: Stream) -> tuple[bytes, int]:
        key = stream.key()
        if len(key) > MAX_KEY:
            raise ValueError(f"a stream's key of {len(key)} bytes; at most {MAX_KEY}")
        return key, stream.app_id.partition(self.partitions)

    def _write_pending(self) -> None:
        """Begin the next write with what waits for it."""
        if not self._pending:
            self._idle.set()
            return
        size = self._pending[0].size
        last = self._segments[-1]
        begin = bool(last.starts) and last.size + size > self._settings.segment_bytes
        room = BATCH_BYTES if begin else max(min(BATCH_BYTES, self._settings.segment_bytes - last.size), size)
        appends = [self._pending.popleft()]
        while self._pending and (size := size + self._pending[0].size) <= room:
            appends.append(self._pending.popleft())
        self._appended = max(self._appended, int(self._clock() * 1000))
        batch = _Batch(appends, None if begin else last, self._appended, last.head.sequence + begin)
        self._writing = batch
        head = new_head(batch.sequence, self.epoch, self._next, self._appended) if begin else last.head
        pieces: list[bytes] = []
        for append in appends:
            partition = append.partition
            offset = batch.ends.get(partition)
            if offset is None:
                offset = self._next[partition]
            batch.ends[partition] = offset + 1
            batch.offsets.append(offset)
            record = Record(partition, offset, self._appended, append.flags, append.key, append.origin, append.value)
            pieces.append(encode(record, head.seed))
            pieces.append(append.value)
        serial = self.serial

        def write() -> None:
            error = None
            try:
                if batch.segment is None:
                    batch.segment = Segment.create(self._folder, head, serial)
                batch.end = batch.segment.write(pieces)
            except OSError as raised:
                error = raised
            self._loop.call_soon_threadsafe(self._written, batch, pieces, error)

        self._writer.submit(write)

    def _written(self, batch: _Batch, pieces: list[bytes], error: OSError | None) -> None:
        """A write has ended: make its records visible, or refuse them and all that wait behind them."""
        self._writing = None
        if batch.segment is not None and batch.segment is not self._segments[-1]:
            self._add_segment(batch.segment)
        if error is not None:
            self._refuse([*batch.appends, *self._pending], error)
            self._pending.clear()
            self._idle.set()
            return
        segment = batch.segment
        assert segment is not None
        start = segment.size
        segment.size = batch.end
        for position, (append, offset) in enumerate(zip(batch.appends, batch.offsets, strict=True)):
            stream, _, partition, value, origin, flags, done = append
            segment.add(partition, start, batch.appended)
            start += len(pieces[2 * position]) + len(value)
            if stream is None:
                self._recent.append(Fence(partition, offset))
            else:
                self._recent.append(
                    Chunk(self.epoch, partition, offset, batch.appended, stream, value, origin, bool(flags & PARTIAL))
                )
                self._recent_size += len(value) + _CHUNK_COST
            if not done.done():
                done.set_result(Cursor(self.epoch, partition, offset, -1))
        self.serial += len(batch.appends)
        for partition, end in batch.ends.items():
            self._next[partition] = end
        self._trim_recent()
        self._unsynced.add(segment)
        if self._sync_timer is None:
            self._sync_timer = self._loop.call_later(self._settings.sync_interval, self._sync)
        for reader in self._live:
            reader.landed(batch.ends)
        if self._group is not None:
            self._group.landed()
        # Those who have just been answered run first, so what they append next goes into the same write.
        self._loop.call_soon(self._write_pending)

    def _refuse(self, appends: Iterable[_Append], error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"no space left for the journal in {self._folder}: free some; lines are taken again then"
        else:
            reason = f"the journal in {self._folder} can't be written: {error.strerror}"
        for append in appends:
            self._bytes -= append.size
            if not append.done.done():
                append.done.set_exception(BusError(reason))

    def _trim_recent(self) -> None:
        recent, base = self._recent, self._recent_base
        while self._recent_size > self._settings.recent_bytes:
            chunk = recent[self._recent_first - base]
            if type(chunk) is Chunk:
                self._recent_size -= len(chunk.value) + _CHUNK_COST
            recent[self._recent_first - base] = None
            self._recent_first += 1
        gone = self._recent_first - base
        if gone > 1024 and gone * 2 > len(recent):
            del recent[:gone]
            self._recent_base = self._recent_first

    # ---- to the disk

    def _sync(self) -> None:
        self._sync_timer = None
        segments = list(self._unsynced)
        self._unsynced.clear()

        def sync() -> None:
            try:
                for segment in segments:
                    segment.sync()
            except OSError as error:
                self._loop.call_soon_threadsafe(self._break, error)

        self._syncer.submit(sync)

    def _break(self, error: OSError) -> None:
        # After a failed sync the kernel forgets what it couldn't write: nothing that follows could be trusted.
        self._broken = BusError(
            f"the disk refused what was written to the journal in {self._folder} ({error.strerror}): "
            f"check the disk, then start again"
        )

    async def close(self) -> None:
        """Write what was appended, bring it to the disk, let the folder go. Once closed, it stays closed."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync()
        for reader in list(self._live):
            await reader.close()
        if self._group is not None:
            await self._group.close()
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        for pool in (self._writer, self._syncer, self._pool):
            pool.shutdown()
        for segment in self._segments:
            segment.close()

    # ---- reading

    async def bounds(self, partition: int) -> Bounds:
        """See `Bus.bounds`."""
        self._check_partition(partition)
        return Bounds(self._segments[0].next[partition], self._next[partition])

    async def watermark(self, partition: int) -> int:
        """See `Bus.watermark`."""
        self._check_partition(partition)
        return self.watermark_now(partition)

    def watermark_now(self, partition: int) -> int:
        return max(self._committed.get(partition, 0), self._segments[0].next[partition])

    def end_now(self, partition: int) -> int:
        return self._next[partition]

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        """See `Bus.read`; at most MAX_READ bytes at once. Raises OutOfRange; BusError where the journal is damaged."""
        self._check_partition(partition)
        recent = self.read_recent(partition, offset, min(max_bytes, MAX_READ))
        if recent is not None:
            await asyncio.sleep(0)  # a turn for the others: nothing else here gives them one
            return recent
        return await self.read_files(partition, offset, min(max_bytes, MAX_READ))

    def read_recent(self, partition: int, offset: int, max_bytes: int) -> Fetched | None:
        """What memory holds of a partition from `offset` on; None where the files must be read. Raises OutOfRange."""
        chunks: list[Chunk] = []
        size = 0
        for segment in self._segments[self._segment_of(partition, offset) :]:
            numbers = segment.index.get(partition)
            if numbers is None or offset >= segment.end(partition):
                continue
            offset = max(offset, segment.next[partition])
            at = offset - segment.next[partition]
            if segment.first + numbers[at] < self._recent_first:
                return None
            shift = segment.first - self._recent_base
            recent = self._recent
            for number in range(at, len(numbers)):
                chunk = recent[numbers[number] + shift]
                offset += 1
                if type(chunk) is Chunk:
                    chunks.append(chunk)
                    size += len(chunk.value)
                    if size >= max_bytes:
                        return Fetched(partition, chunks, offset)
        return Fetched(partition, chunks, max(offset, self._next[partition]))

    def read_files(self, partition: int, offset: int, max_bytes: int) -> "asyncio.Future[Fetched]":
        """Read a partition from the journal's files. Raises OutOfRange; its result may raise it too, and BusError."""
        for segment in self._segments[self._segment_of(partition, offset) :]:
            numbers = segment.index.get(partition, ())
            if offset < segment.end(partition):
                break
        offset = max(offset, segment.next[partition])
        spans: list[tuple[int, int]] = []
        size = 0
        for at in range(offset - segment.next[partition], len(numbers)):
            start, end = segment.span(numbers[at])
            spans.append((start, end))
            size += end - start
            if size >= max_bytes:
                break
        following = offset + len(spans)

        def read() -> Fetched:
            try:
                records = segment.read(spans)
            except SegmentGone:
                raise OutOfRange(partition, offset, self._segments[0].next[partition], self._next[partition]) from None
            return Fetched(partition, [chunk for chunk in map(self._item, records) if type(chunk) is Chunk], following)

        return self._loop.run_in_executor(self._pool, read)

    async def read_journal(self, serial: int, max_bytes: int) -> tuple[int, Sequence[Chunk | Fence]]:
        """About `max_bytes` of all partitions from record number `serial` on, and the number behind them.

        Raises BusError where the journal is damaged.
        """
        serial = max(serial, self._segments[0].first)
        if serial >= self._recent_first:
            return self._journal_recent(serial, max_bytes)
        segment = self._segments[bisect_right(self._segments, serial, key=lambda segment: segment.first) - 1]
        begin = serial - segment.first
        limit = segment.span(begin)[0] + max_bytes
        end = max(begin + 1, bisect_right(segment.starts, limit, begin) - 1)
        spans = [segment.span(number) for number in range(begin, end)]

        def read() -> list[Chunk | Fence]:
            return [self._item(record) for record in segment.read(spans)]

        return serial + len(spans), await self._loop.run_in_executor(self._pool, read)

    def _journal_recent(self, serial: int, max_bytes: int) -> tuple[int, Sequence[Chunk | Fence]]:
        items: list[Chunk | Fence] = []
        recent = self._recent
        size = 0
        for number in range(serial - self._recent_base, len(recent)):
            item = recent[number]
            assert item is not None
            items.append(item)
            if type(item) is Chunk:
                size += len(item.value)
                if size >= max_bytes:
                    break
        return serial + len(items), items

    def first_unread(self) -> int:
        """Number of the first record in the journal that is not below its partition's watermark."""
        first = self.serial
        for partition in range(self.partitions):
            offset = self.watermark_now(partition)
            for segment in self._segments[self._segment_of(partition, offset) :]:
                if offset < segment.end(partition):
                    at = max(offset - segment.next[partition], 0)
                    first = min(first, segment.first + segment.index[partition][at])
                    break
        return first

    def _item(self, record: Record) -> Chunk | Fence:
        partition, offset, appended, flags, key, origin, value = record
        if flags & FENCE:
            return Fence(partition, offset)
        stream = Stream.of(key)
        return Chunk(self.epoch, partition, offset, appended, stream, value, origin, bool(flags & PARTIAL))

    def _segment_of(self, partition: int, offset: int) -> int:
        """Number of the segment in which `offset` is or would be. Raises OutOfRange."""
        segments = self._segments
        start, end = segments[0].next[partition], self._next[partition]
        if not start <= offset <= end:
            raise OutOfRange(partition, offset, start, end)
        return bisect_right(segments, offset, key=lambda segment: segment.next[partition]) - 1

    def _check_partition(self, partition: int) -> None:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"partition {partition} of {self.partitions}")

    def live(self) -> LocalLive:
        """See `Bus.live`; any number at once."""
        reader = LocalLive(self)
        self._live.add(reader)
        return reader

    def forget_live(self, reader: LocalLive) -> None:
        self._live.discard(reader)

    # ---- the group

    def group(self) -> LocalGroup:
        """See `Bus.group`. One member holds all partitions. Raises BusError while there is another."""
        if self._group is not None:
            raise BusError("the journal has its reader already")
        self._group = LocalGroup(self)
        return self._group

    def forget_group(self) -> None:
        self._group = None

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Set watermarks (never back), then delete what is below all of them."""
        for partition, offset in offsets.items():
            self._check_partition(partition)
            if offset > self._next[partition]:
                raise OutOfRange(partition, offset, self._segments[0].next[partition], self._next[partition])
        async with self._commits:
            committed = dict(self._committed)
            for partition, offset in offsets.items():
                committed[partition] = max(offset, committed.get(partition, 0))
            try:
                await self._loop.run_in_executor(self._pool, _write_watermarks, self._folder, committed)
            except OSError as error:
                raise BusError(f"the watermarks in {self._folder} can't be written: {error.strerror}") from error
            self._committed = committed
        self._drop_segments()

    def _drop_segments(self, *, full: bool = False) -> None:
        """Delete the segments wholly below the watermarks, the newest few seconds excepted unless it is `full`."""
        newest = (self._clock() - (0 if full else self._settings.hold_back)) * 1000
        victims: list[Segment] = []
        for segment, following in zip(self._segments, self._segments[1:], strict=False):
            needed = any(self.watermark_now(p) < end for p, end in enumerate(following.next))
            if needed or segment.appended > newest or not following.synced:
                break
            victims.append(segment)
        if victims:
            del self._segments[: len(victims)]
            self._bytes -= sum(segment.size for segment in victims)
            self._pool.submit(_unlink, victims)


def _unlink(segments: Sequence[Segment]) -> None:
    for segment in segments:
        segment.unlink()


def _lock(folder: Path) -> int:
    """Take the folder for this process; the lock ends with the descriptor. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"the data folder {folder} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode().strip()
        os.close(fd)
        raise ConfigError(
            f"the data folder {folder} is in use by process {pid}: stop that one, or choose another folder"
        ) from None
    except OSError as error:
        os.close(fd)
        raise ConfigError(f"the data folder {folder} can't be used: {error.strerror}") from error
    return fd


def _read_watermarks(folder: Path) -> dict[int, int]:
    try:
        return {
            int(partition): offset for partition, offset in orjson.loads((folder / "watermarks").read_bytes()).items()
        }
    except FileNotFoundError:
        return {}


def _write_watermarks(folder: Path, committed: Mapping[int, int]) -> None:
    fresh = folder / "watermarks.new"
    fresh.write_bytes(orjson.dumps(committed, option=orjson.OPT_NON_STR_KEYS))
    fresh.replace(folder / "watermarks")
