"""The bus of one machine: a journal in a folder, used by one process.

What is appended is in the page cache before anybody sees it, so it survives the end of the process, however that
comes; it is on the disk `sync_interval` later, so a power loss may take that much.

All state is the event loop's. One thread writes, so a slow disk holds up appends and not the loop; one syncs; two do
the rest. One write is in flight at a time, and what is appended meanwhile goes into the next.
"""

import asyncio
import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from logsvc import metrics
from logsvc.bus.journal import Append, Batch, Fence, Journal
from logsvc.bus.local_readers import LocalGroup, LocalLive
from logsvc.bus.protocol import Bounds, Fetched
from logsvc.bus.records import FENCE, MAX_KEY, MAX_ORIGIN, PARTIAL
from logsvc.bus.segment import Segment, SegmentGone, sync_folder
from logsvc.bus.watermarks import Watermarks
from logsvc.errors import BusError, ConfigError, OutOfRange
from logsvc.model import MAX_CHUNK, Chunk, Cursor, Origin, Stream

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Most bytes in one write."""

BATCH_RECORDS: Final = 1024
"""Most records in one write: many small ones must not hold up the event loop for long."""

MAX_READ: Final = 8 * 1024 * 1024
"""Most bytes of values that one read returns, whatever it asks for (or one record)."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How a journal keeps what it is given."""

    segment_bytes: int = 64 * 1024 * 1024
    """A new file is begun when one is this large; at most a quarter of `max_bytes`. Space comes back by whole files."""
    max_bytes: int = 4 * 1024 * 1024 * 1024
    """Most bytes on the disk. When the store is away until the journal is this large, appends are refused."""
    recent_bytes: int = 16 * 1024 * 1024
    """Most bytes of the newest chunks kept in memory for those who read at the end."""
    sync_interval: float = 1.0
    """Seconds until what was appended is on the disk: what a power loss may take."""
    hold_back: float = 10.0
    """Seconds for which a file stays though the store has all of it, for live readers that are a little behind."""


class LocalBus:
    """A `Bus` in a folder. Made by `open`."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        watermarks: Watermarks,
        settings: LocalSettings,
        clock: Callable[[], float],
    ) -> None:
        self.epoch = journal.epoch
        self.partitions = journal.partitions
        self.sealed: Mapping[int, int] | None = None
        self.journal = journal
        self._folder = folder
        self._watermarks = watermarks
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # As many as there are callers: each waits for its own.
        self._pending: deque[tuple[Append, asyncio.Future[Cursor]]] = deque()
        self._pending_bytes = 0  # what is being written included
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._broken: str | None = None
        self._unsynced: set[Segment] = set(journal.segments)
        self._sync_timer: asyncio.TimerHandle | None = self._loop.call_later(settings.sync_interval, self._sync)
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

        `clock` gives Unix seconds. Raises ConfigError where the folder can't be used: another process has it, rights
        are missing, it was made with another number of partitions. Raises BusError where the journal is damaged,
        NewerFormat where a newer logsvc wrote it.
        """
        with ExitStack() as stack:
            try:
                journal, watermarks = await asyncio.to_thread(_load, stack, folder, partitions, settings)
            except OSError as error:
                raise ConfigError(f"the data folder {folder} can't be used: {error.strerror}") from error
            bus = cls(folder, journal, watermarks, settings, clock)
            try:
                yield bus
            finally:
                await bus.close()

    # ---- appending

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        """See `Bus.append`. Raises ValueError where the value is larger than MAX_CHUNK.

        Raises BusError where the journal or the disk is full; it works again once there is space.
        """
        if len(value) > MAX_CHUNK:
            raise ValueError(f"a chunk of {len(value)} bytes; at most {MAX_CHUNK}")
        header = origin.header() if origin is not None else b""
        if len(header) > MAX_ORIGIN:
            raise ValueError(f"an origin of {len(header)} bytes; at most {MAX_ORIGIN}")
        interned, key, partition = self._identify(stream)
        append = Append(interned, key, partition, value, header, PARTIAL if partial else 0)
        if self._is_full(append.size):
            self._drop(full=True)
            if self._is_full(append.size):
                raise BusError(
                    f"the journal is full: {self.journal.size} bytes wait for the store; it goes on when the store does"
                )
        return await self._submit(append)

    async def turn(self, partition: int) -> int:
        """Write a fence, then begin a new file; its offset. What is before it goes from the disk once it is stored."""
        offset = await self.fence(partition)
        self.journal.turn()
        await self.fence(partition)
        return offset

    async def fence(self, partition: int) -> int:
        """See `Bus.fence`. Raises BusError; a journal that is full still takes it."""
        self.check(partition)
        return (await self._submit(Append(None, b"", partition, b"", b"", FENCE))).offset

    def named(self, name: str) -> Self:
        """See `Bus.named`: no other process appends here."""
        del name
        return self

    def _is_full(self, size: int) -> bool:
        return self.journal.size + self._pending_bytes + size > self._settings.max_bytes

    def _identity(self, stream: Stream) -> tuple[Stream, bytes, int]:
        key = stream.key()
        if len(key) > MAX_KEY:
            raise ValueError(f"a stream's key of {len(key)} bytes; at most {MAX_KEY}")
        return Stream.of(key), key, stream.app_id.partition(self.partitions)

    def _submit(self, append: Append) -> asyncio.Future[Cursor]:
        if self._broken is not None:
            raise BusError(self._broken)
        if self._closed:
            raise BusError("the bus is closed")
        done: asyncio.Future[Cursor] = self._loop.create_future()
        self._pending_bytes += append.size
        self._pending.append((append, done))
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._write)
        return done

    def _write(self) -> None:
        """Begin the next write with what waits for it."""
        pending = self._pending
        if not pending:
            self._idle.set()
            return
        room = self.journal.room(BATCH_BYTES)
        taken = [pending.popleft()]
        size = taken[0][0].size
        while pending and len(taken) < BATCH_RECORDS and (size := size + pending[0][0].size) <= room:
            taken.append(pending.popleft())
        batch = self.journal.batch([append for append, _ in taken], int(self._clock() * 1000))
        waiting = [done for _, done in taken]
        began = time.perf_counter()

        def write() -> None:
            try:
                batch.write()
            except (OSError, BusError) as error:
                self._loop.call_soon_threadsafe(self._failed, batch, waiting, error)
            else:
                self._loop.call_soon_threadsafe(self._written, batch, waiting, began)

        self._writer.submit(write)

    def _written(self, batch: Batch, waiting: Sequence[asyncio.Future[Cursor]], began: float) -> None:
        cursors = self.journal.land(batch)
        metrics.bus_append_seconds.observe(time.perf_counter() - began)
        metrics.bus_appends.inc(len(cursors))
        metrics.bus_append_bytes.inc(sum(len(append.value) for append in batch.appends))
        metrics.bus_journal_bytes.set(self.journal.size)
        for append, done, cursor in zip(batch.appends, waiting, cursors, strict=True):
            self._pending_bytes -= append.size
            if not done.done():
                done.set_result(cursor)
        self._unsynced.add(self.journal.segments[-1])
        if self._sync_timer is None:
            self._sync_timer = self._loop.call_later(self._settings.sync_interval, self._sync)
        for reader in self._live:
            reader.landed(batch.ends)
        if self._group is not None:
            self._group.landed()
        # Those who have just been answered run first, so what they append next goes into the same write.
        self._loop.call_soon(self._write)

    def _failed(self, batch: Batch, waiting: Iterable[asyncio.Future[Cursor]], error: OSError | BusError) -> None:
        """Refuse what was in the batch, and all that waits behind it: their order would be broken else."""
        self.journal.begun(batch)
        metrics.bus_errors.labels("append").inc()
        if isinstance(error, BusError):
            reason = self._broken = f"{error}: start again once the disk is sound"
        elif error.errno in _NO_SPACE:
            reason = f"no space left for the journal in {self._folder}: free some, then lines are taken again"
        else:
            reason = f"the journal in {self._folder} can't be written: {error.strerror}"
        for done in [*waiting, *(done for _, done in self._pending)]:
            if not done.done():
                done.set_exception(BusError(reason))
        self._pending.clear()
        self._pending_bytes = 0
        self._idle.set()

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
            else:
                self._loop.call_soon_threadsafe(self._drop)  # what waited for that

        self._syncer.submit(sync)

    def _break(self, error: OSError) -> None:
        metrics.bus_errors.labels("sync").inc()
        # After a failed sync the kernel forgets what it couldn't write: nothing that follows could be trusted.
        self._broken = (
            f"the disk refused what was written to the journal in {self._folder} ({error.strerror}): "
            f"start again once the disk is sound"
        )

    async def close(self) -> None:
        """Write what was appended and bring it to the disk; readers end. Twice is once."""
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
        for pool in (self._writer, self._syncer, self._pool):
            await asyncio.to_thread(pool.shutdown)

    # ---- reading

    async def bounds(self, partition: int) -> Bounds:
        """See `Bus.bounds`."""
        self.check(partition)
        return Bounds(self.journal.start(partition), self.journal.next[partition])

    async def watermark(self, partition: int) -> int:
        """See `Bus.watermark`."""
        self.check(partition)
        return max(self._watermarks.offsets[partition], self.journal.start(partition))

    def watermarks(self) -> list[int]:
        return [max(mark, self.journal.start(p)) for p, mark in enumerate(self._watermarks.offsets)]

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        """See `Bus.read`; at most MAX_READ bytes at once. Raises OutOfRange; BusError where the journal is damaged."""
        self.check(partition)
        recent = self.journal.recent(partition, offset, min(max_bytes, MAX_READ))
        if recent is not None:
            await asyncio.sleep(0)  # a turn for the others: nothing else here gives them one
            return recent
        return await self.read_files(partition, offset, min(max_bytes, MAX_READ))

    def read_files(self, partition: int, offset: int, max_bytes: int) -> "asyncio.Future[Fetched]":
        """See `Journal.files`."""
        return self._loop.run_in_executor(self._pool, self.journal.files(partition, offset, max_bytes))

    async def read_sequence(self, serial: int, max_bytes: int) -> Sequence[Chunk | Fence]:
        """About `max_bytes` of all partitions, in the order of the journal, from record number `serial` on."""
        recent = self.journal.recent_sequence(serial, max_bytes)
        if recent is not None:
            return recent
        try:
            return await self._loop.run_in_executor(self._pool, self.journal.sequence(serial, max_bytes))
        except SegmentGone:  # committed and deleted meanwhile
            return []

    def check(self, partition: int) -> None:
        """Raises ValueError where there is no such partition."""
        if not 0 <= partition < self.partitions:
            raise ValueError(f"partition {partition} of {self.partitions}")

    def live(self) -> LocalLive:
        """See `Bus.live`; any number at once."""
        reader = LocalLive(self)
        self._live.add(reader)
        return reader

    def group(self) -> LocalGroup:
        """See `Bus.group`. One member holds all partitions. Raises BusError while there is another."""
        if self._group is not None:
            raise BusError("the journal has its group reader already")
        self._group = LocalGroup(self)
        return self._group

    def left(self, reader: LocalLive | LocalGroup) -> None:
        """A reader is closed."""
        if isinstance(reader, LocalLive):
            self._live.discard(reader)
        elif self._group is reader:
            self._group = None

    # ---- the store's progress

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Set watermarks (they never go back), then delete what is below all of them. See `GroupReader.commit`."""
        for partition, offset in offsets.items():
            self.check(partition)
            if offset > self.journal.next[partition]:
                raise OutOfRange(partition, offset, self.journal.start(partition), self.journal.next[partition])
        async with self._commits:
            marks = list(self._watermarks.offsets)
            for partition, offset in offsets.items():
                marks[partition] = max(offset, marks[partition])
            try:
                await self._loop.run_in_executor(self._pool, self._watermarks.write, marks)
            except OSError as error:
                metrics.bus_errors.labels("commit").inc()
                raise BusError(f"the watermarks in {self._folder} can't be written: {error}") from error
        self._drop()

    def _drop(self, *, full: bool = False) -> None:
        """Delete segments below the watermarks; where it is `full`, without holding back the newest."""
        if self._closed:
            return
        newest = self._clock() - (0 if full else self._settings.hold_back)
        gone = self.journal.drop(self.watermarks(), newest * 1000)
        if gone:
            metrics.bus_journal_bytes.set(self.journal.size)
            self._pool.submit(_unlink, gone)


def _unlink(segments: Sequence[Segment]) -> None:
    for segment in segments:
        segment.unlink()


def _load(stack: ExitStack, folder: Path, partitions: int, settings: LocalSettings) -> tuple[Journal, Watermarks]:
    """Take the folder and read what is in it; `stack` lets it go. Raises as `LocalBus.open`, and OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(_locked(folder))
    watermarks = Watermarks.open(folder, partitions)
    stack.callback(watermarks.close)
    segment_bytes = min(settings.segment_bytes, settings.max_bytes // 4)
    journal = Journal(folder, partitions, segment_bytes=segment_bytes, recent_bytes=settings.recent_bytes)
    stack.callback(journal.close)
    journal.load(watermarks.offsets, lost_power=_lost_power(folder))
    stack.enter_context(_running(folder))
    return journal, watermarks


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises ConfigError where another one has it, OSError."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode().strip()
            raise ConfigError(
                f"the data folder {folder} is in use by process {pid}: stop that one, or choose another folder"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def _boot() -> bytes:
    """Tells one boot of the machine from another, where the system says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b"unknown"


def _lost_power(folder: Path) -> bool:
    """Whether the machine went down while the folder was in use: what was not synced may be lost."""
    note = folder / "running"
    return note.exists() and note.read_bytes() != _boot()


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    """Note in the folder, durably, under which boot it is in use, until it is let go in order."""
    note = folder / "running"
    with note.open("wb") as file:
        file.write(_boot())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
