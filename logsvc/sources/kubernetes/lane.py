"""The log files of one container, read in the order in which they were written."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from logsvc.formats import cri
from logsvc.model import MAX_CHUNK, Origin, Stream, notices_of
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.assemble import SEGMENT, Assembler, Held, Piece
from logsvc.sources.kubernetes.podlogs import (
    CHECKED,
    NOWHERE,
    Entry,
    LogFile,
    Pod,
    Rewritten,
    expand,
    folder,
    list_logs,
    open_log,
    unpacked_size,
)
from logsvc.sources.kubernetes.watch import Handler, Watcher

TURN: Final = MAX_CHUNK
"""Most bytes that one turn reads."""

logger = logging.getLogger(__name__)


class Identity(Protocol):
    """Who a container belongs to."""

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | None:
        """The stream of one incarnation of a container; None while it isn't known, its lines then wait.

        Asked once a chunk, so it must be quick, and give the same object for the same answer.
        """


class Turn(Enum):
    """What a turn found."""

    MORE = auto()
    """Lines were sent, and there may be more."""
    QUIET = auto()
    """Nothing to read now."""
    UNKNOWN = auto()
    """There are lines, but it isn't known yet whose."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What all lanes work with."""

    root: int
    """Descriptor of the folder of all pods."""
    collector: Collector
    identity: Identity
    scratch: Path
    """A folder for unpacked files."""
    now: Callable[[], int]
    """Unix ns."""
    grace: float
    """Seconds after which the end of a file that a later one has replaced counts as a line, newline or not."""


@lru_cache(maxsize=1 << 14)
def _platform(stream: Stream) -> Stream:
    return replace(stream, source="platform")


class Lane:
    """One container: its files, the line that is being joined, and the notices of what was lost."""

    def __init__(self, shop: Shop, pod_folder: str, container: str, pod: Pod) -> None:
        self.pod_folder = pod_folder
        self.container = container
        self.files: list[LogFile] = []
        self.gone = False
        """The container's folder was deleted."""
        self.listed = 0
        """The folder's mtime when it was listed last."""
        self.busy = False
        """Somebody takes turns."""
        self.idle_since = 0.0
        self._shop = shop
        self._pod = pod
        self._assembler = Assembler(shop.now)
        self._current: LogFile | None = None
        self._restored = False
        self._refused: set[str] = set()
        self._losses: list[tuple[Origin, int, str]] = []
        """Notices to send first: an origin that closes the file, its restart, and what happened."""

    @property
    def name(self) -> str:
        return f"{self.pod_folder}/{self.container}"

    @property
    def prefix(self) -> str:
        """What Origin.file of all its files begins with."""
        return f"{self._pod.uid}/{self.container}/"

    # ---- which files there are

    def scan(self) -> None:
        """List the folder: take in new files, follow renamed ones. Raises OSError, except where it is gone."""
        try:
            with folder(self._shop.root, self.pod_folder, self.container) as fd:
                listing = list_logs(fd)
                new = self._match(listing.entries)
                opened = [file for entry in new if (file := open_log(fd, entry)) is not None]
        except FileNotFoundError:
            self.gone = True
            for file in self.files:
                file.deleted = True
            return
        self.listed = listing.mtime
        self.gone = False
        for name in listing.refused:
            if name not in self._refused:
                self._refused.add(name)
                logger.warning("%s/%s is not a regular file and is not read", self.name, name)
        self.files += opened
        self.files.sort(key=lambda file: file.name.restart)
        for file in opened:
            # At once: what is known of a file is forgotten when it is closed, and this may be its compressed copy.
            self._place(file)

    def _match(self, entries: Sequence[Entry]) -> list[Entry]:
        """Follow the files that are known; return what is new."""
        by_inode = {file.inode: file for file in self.files if file.fd >= 0}
        by_name = {file.name.plain: file for file in self.files}
        plain = {entry.name.name for entry in entries}
        present: set[int] = set()
        new: list[Entry] = []
        for entry in entries:
            if entry.name.compressed and entry.name.plain in plain:
                continue  # being compressed: the plain one is still there
            file = by_inode.get(entry.inode)
            if file is None:
                file = by_name.get(entry.name.name if not entry.name.compressed else entry.name.plain)
                if file is not None and not self._same(file, entry):
                    file = None
            if file is None:
                new.append(entry)
            else:
                file.name = entry.name
                if file.fd < 0:
                    file.inode = entry.inode
                file.deleted = False
                present.add(id(file))
        for file in [file for file in self.files if id(file) not in present]:
            if file.fd >= 0:
                file.deleted = True
            else:
                self.files.remove(file)
                self._forget(file)
        return new

    @staticmethod
    def _same(file: LogFile, entry: Entry) -> bool:
        """Whether `entry`, of another inode or of a closed file, holds what `file` held: by its name."""
        return entry.name.compressed or (file.fd < 0 and file.inode == entry.inode)

    def _forget(self, file: LogFile) -> None:
        if file.id and not any(other.id == file.id for other in self.files):
            self._shop.collector.forget([file.id])

    # ---- finding the place again

    async def restore(self) -> None:
        """Go to the places that the collector knows, as after a crash; what was read and not sent is read again."""
        self._assembler = Assembler(self._shop.now)
        self._current = None
        self._losses.clear()
        for file in list(self.files):
            if not file.finished:
                file.id = ""
                file.place(0, b"")
                self._place(file)
        self.files.sort(key=lambda file: (file.name.restart, file.id not in self._shop.collector.positions))
        if not self._restored:
            self._restored = True
            self._look_for_gap()
        placed = [file for file in self.files if file.id in self._shop.collector.positions]
        if placed:
            self._current = placed[-1]
            await self._hold_again(placed, self._shop.collector.positions[placed[-1].id])

    def _place(self, file: LogFile) -> bool:
        """Learn who `file` is and go to its place; whether its first line is there already."""
        digest = file.identify()
        if not digest:
            return False
        name = f"{self.prefix}{file.name.restart}@{digest}"
        for number in count():
            file.id = f"{name}+{number}" if number else name
            twin = next((other for other in self.files if other.id == file.id and other is not file), None)
            if twin is not None and twin.deleted:
                self._unite(twin, file)
                return True
            if twin is not None:
                continue  # another file with the same first line
            origin = self._shop.collector.positions.get(file.id)
            if origin is None or self._go_to(file, origin):
                return True
        raise AssertionError

    def _unite(self, file: LogFile, packed: LogFile) -> None:
        """What looked deleted was renamed and compressed since the folder was listed: go on with what is open."""
        file.name = packed.name
        file.deleted = False
        if file.fd < 0:
            file.inode = packed.inode
        self._finish(packed)
        self.files.remove(packed)

    def _go_to(self, file: LogFile, origin: Origin) -> bool:
        """Go on behind `origin`; False where that was another file, with the same first line."""
        if file.compressed:
            if origin.check == CLOSED or unpacked_size(file.fd) == origin.end:
                self._finish(file)
                file.position = origin.end
            return True
        if origin.check == CLOSED:
            return False
        tail = file.before(origin.end)
        if len(tail) == min(origin.end, CHECKED) and crc32(tail) == origin.check:
            file.place(origin.end, tail)
            return True
        text = "Lines may be missing here: a log file was written anew while it was not being read"
        self._losses.append((origin._replace(check=CLOSED, held=()), file.name.restart, text))
        return False

    def _look_for_gap(self) -> None:
        """Where the file that was read last is gone, what it and those behind it held may be lost."""
        known = [file for file in self._shop.collector.positions if file.startswith(self.prefix)]
        if not known or not self.files or any(file.id == known[-1] for file in self.files):
            return
        origin = self._shop.collector.positions[known[-1]]
        told = any(loss.file == origin.file for loss, _, _ in self._losses)
        if origin.check != CLOSED and not told:
            restart = int(known[-1].removeprefix(self.prefix).partition("@")[0])
            text = "Lines may be missing here: a log file was deleted while it was not being read"
            self._losses.append((origin._replace(check=CLOSED, held=()), restart, text))

    async def _hold_again(self, placed: Sequence[LogFile], origin: Origin) -> None:
        """Read the parts of unfinished lines again; what else there is up to the place was sent."""
        last = placed[-1]
        first, at = origin.held[0] if origin.held else (last.id, last.position)
        names = [file.id for file in placed]
        if first not in names:
            logger.warning("%s: the beginning of a line is lost with its file", self.name)
            return
        for file in placed[names.index(first) :]:
            finished = file.finished
            if not await self._reopen(file):
                continue
            stop = origin.end if file is last else file.size()
            self._enter(file, at)
            await self._replay(file, at, stop)
            file.place(stop, file.before(stop))
            if finished:
                self._finish(file)
            at = 0
        self._assembler.retain(origin.held)

    async def _reopen(self, file: LogFile) -> bool:
        """Make a file readable that may be finished; whether that can be done."""
        if file.fd < 0:
            with suppress(FileNotFoundError), folder(self._shop.root, self.pod_folder, self.container) as fd:
                again = open_log(fd, Entry(file.name, file.inode, 0))
                if again is not None:
                    file.fd, file.compressed = again.fd, again.compressed
            file.finished = False
        await self._unpack(file)
        return file.fd >= 0

    async def _replay(self, file: LogFile, at: int, stop: int) -> None:
        more = 0
        while at < stop:
            data = file.read_at(at, min(TURN, stop - at + more))
            _, taken = self._assembler.feed(file.id, at, data)
            if taken == at:
                if more:
                    break
                # That a line is longer than SEGMENT shows one byte behind it.
                more = 1
            at = taken
            await asyncio.sleep(0)

    def _enter(self, file: LogFile, at: int) -> None:
        """Where `at` is inside of a line longer than SEGMENT, tell the assembler which."""
        begin = at
        while begin > 0:
            step = min(begin, TURN)
            newline = file.read_at(begin - step, step).rfind(b"\n")
            if newline >= 0:
                begin = begin - step + newline + 1
                break
            begin -= step
        if begin < at and (at - begin) % SEGMENT == 0:
            self._assembler.enter(file.read_at(begin, SEGMENT))

    # ---- reading

    async def turn(self) -> Turn:
        """Send the lines of one bounded read. Raises BusError, OSError."""
        if self._losses:
            return await self._tell()
        found = await self._pick()
        if found is None:
            return Turn.MORE if self._losses else Turn.QUIET
        file, data = found
        stream = self._stream(file)
        if stream is None:
            return Turn.UNKNOWN
        if file is not self._current and not await self._move_on(file):
            return Turn.QUIET
        begin = len(file.tail)
        pieces, end = self._assembler.feed(file.id, file.position, data, begin)
        if end == file.position:
            file.incomplete = len(data) - begin
            file.since = asyncio.get_running_loop().time()
            return Turn.MORE
        start = file.position
        await self._send(file, stream, pieces, data)
        if not pieces or pieces[-1].end < end:
            self._shop.collector.moved(self._origin(file, start, end, data, self._assembler.held))
        file.moved(end, data, begin + end - start)
        if len(data) - begin == TURN:
            file.seen = max(file.seen, file.size())
        return Turn.MORE

    async def _send(self, file: LogFile, stream: Stream, pieces: Sequence[Piece], data: bytes) -> None:
        """Append pieces one after the other, as what the platform says is another stream of the same partition."""
        start = file.position
        for piece in pieces:
            target = _platform(stream) if piece.platform else stream
            place = self._origin(file, start, piece.end, data, piece.held)
            await self._shop.collector.append(target, piece.value, place, partial=piece.partial)
            start = piece.end

    def _origin(self, file: LogFile, start: int, end: int, data: bytes, held: Held) -> Origin:
        """Of `file[start:end]`, where `data` is the file's tail and what is behind it."""
        stop = end - file.position + len(file.tail)
        return Origin(self._shop.collector.node, file.id, start, end, crc32(data[max(stop - CHECKED, 0) : stop]), held)

    def _stream(self, file: LogFile) -> Stream | None:
        pod = self._pod
        return self._shop.identity.stream(pod.namespace, pod.name, pod.uid, self.container, file.name.restart)

    async def _pick(self) -> tuple[LogFile, bytes] | None:
        """The oldest file that has something new, and what that is, with its tail before it."""
        files = [file for file in self.files if not file.finished]
        for number, file in enumerate(files):
            await self._unpack(file)
            if file.finished:
                continue
            data = self._read(file)
            if self._losses:
                return None
            if data is None:
                continue
            # Whoever writes begins the next file before it lets go of this one: look behind once more.
            for earlier in files[:number]:
                if not earlier.finished and earlier.fd >= 0 and (again := self._read(earlier)) is not None:
                    return earlier, again
            return file, data
        return None

    def _read(self, file: LogFile) -> bytes | None:
        try:
            data = file.read(TURN)
        except Rewritten:
            self._begin_anew(file)
            return None
        file.seen = max(file.seen, file.position + len(data) - len(file.tail))
        if len(data) <= len(file.tail) + file.incomplete:
            if file.damaged:
                text = "Lines may be missing here: a compressed log file is damaged"
                self._losses.append((self._closing(file), file.name.restart, text))
                self._finish(file)
            return None
        if file.id:
            return data
        if not self._place(file):
            file.since = file.since if file.incomplete else asyncio.get_running_loop().time()
            file.incomplete = len(data)
            return None
        if file.finished:
            return None
        return self._read(file) if file.position else data

    async def _move_on(self, file: LogFile) -> bool:
        """Leave the file that was read for a later one; False while its last line may still be being written."""
        previous = self._current
        unfinished = previous is not None and previous.fd >= 0 and previous.incomplete
        if previous is not None and unfinished and not await self._end_line(previous):
            return False
        if previous is not None and previous.name.restart != file.name.restart:
            await self._end_held(previous)
        self._current = file
        return True

    async def _end_line(self, file: LogFile) -> bool:
        """Send the rest of a file that has no newline at its end, once it had the time to get one."""
        if asyncio.get_running_loop().time() - file.since < self._shop.grace:
            return False
        stream = self._stream(file)
        if stream is None:
            return False
        try:
            data = file.read(TURN)
        except Rewritten:
            self._begin_anew(file)
            return True
        begin = len(file.tail)
        start, end = file.position, file.position + len(data) - begin
        pieces, _ = self._assembler.feed(file.id, start, data + b"\n", begin)
        pieces = [piece._replace(end=min(piece.end, end)) for piece in pieces]
        await self._send(file, stream, pieces, data)
        self._shop.collector.moved(self._origin(file, start, end, data, self._assembler.held))
        file.moved(end, data, len(data))
        return True

    async def _end_held(self, file: LogFile) -> None:
        """The process that wrote `file` is gone, and with it the rest of a line that was being joined."""
        stream = self._stream(file)
        if stream is not None and self._assembler.held:
            await self._send(file, stream, self._assembler.end(file.position), file.tail)

    async def _unpack(self, file: LogFile) -> None:
        """Make a compressed file readable, and find the place in it."""
        if not file.compressed or file.fd < 0:
            return
        if not file.id and not self._place(file):
            logger.warning("%s/%s can't be unpacked and is not read", self.name, file.name.name)
            self._finish(file)
        if file.finished:
            return
        fd, whole = await asyncio.to_thread(expand, file.fd, self._shop.scratch)
        file.close()
        file.fd = fd
        file.inode = NOWHERE  # no descriptor keeps the old one from being given to another file
        file.compressed = False
        file.damaged = not whole
        if not file.position:
            self._place(file)

    # ---- what is lost

    def _begin_anew(self, file: LogFile) -> None:
        """The file was truncated: it is another one from here on."""
        lost = file.seen - file.position
        if file.id and lost > 0:
            text = f"{lost} bytes of log were lost: the file was truncated before they were read"
            self._losses.append((self._closing(file), file.name.restart, text))
        elif file.id:
            self._shop.collector.forget([file.id])
        file.id = ""
        file.place(0, b"")

    def _closing(self, file: LogFile) -> Origin:
        return Origin(self._shop.collector.node, file.id, file.position, file.position, CLOSED)

    async def _tell(self) -> Turn:
        origin, restart, text = self._losses[0]
        pod = self._pod
        stream = self._shop.identity.stream(pod.namespace, pod.name, pod.uid, self.container, restart)
        if stream is None:
            return Turn.UNKNOWN
        target = notices_of(stream.app_id, stream.retention)
        line = cri.format_line(cri.format_time(self._shop.now()), b"stdout", f"{stream.dyno}: {text}".encode())
        await self._shop.collector.append(target, line, origin)
        self._losses.pop(0)
        return Turn.MORE

    def give_up(self, file: LogFile) -> None:
        """Close a deleted file that holds too much of the disk, and say what that loses."""
        lost = file.size() - file.position
        text = f"{lost} bytes of log were lost: the file was deleted, and too much of it was waiting to be read"
        if file.id:
            self._losses.append((self._closing(file), file.name.restart, text))
        self._finish(file)

    # ---- letting go

    def _finish(self, file: LogFile) -> None:
        file.finished = True
        file.close()

    def waiting(self) -> int:
        """Bytes on the disk that the bus has not taken, as far as is known without unpacking."""
        return sum(max(file.size() - file.position, 0) for file in self.files if file.fd >= 0 and not file.compressed)

    def changed(self) -> bool:
        """Whether an open file has bytes that were not seen yet."""
        for file in self.files:
            if file.fd < 0:
                continue
            try:
                if file.compressed or file.changed():
                    return True
            except Rewritten:
                return True
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
        return False

    def deleted_bytes(self) -> int:
        return sum([file.size() for file in self.files if file.held_deleted])

    def stale(self) -> bool:
        """Whether the folder has changed since it was listed."""
        try:
            status = os.stat(self.name, dir_fd=self._shop.root, follow_symlinks=False)
        except FileNotFoundError:
            return not self.gone
        return status.st_mtime_ns != self.listed

    def arm(self, watcher: Watcher, handler: Handler) -> bool:
        """Have the kernel report the next write to any of the open files; whether it does."""
        for file in self.files:
            if file.fd >= 0 and not file.armed and not file.compressed:
                file.armed = watcher.arm(file.fd, handler)
        return all(file.armed or file.fd < 0 or file.compressed for file in self.files)

    def woken(self) -> None:
        """The kernel has reported a write; that file isn't watched any more."""
        for file in self.files:
            file.armed = False

    async def sweep(self) -> bool:
        """Close what is read to its end and won't grow; False where nothing is left to do for this container.

        Only while nobody takes turns. Raises BusError, OSError.
        """
        if self._losses:
            return True
        for file in list(self.files):
            if not self.gone and (file is self.files[-1] or file is self._current):
                continue
            held = any(file.id == name for name, _ in self._assembler.held)
            if file.fd >= 0 and not (held or file.compressed or file.changed() or file.position < file.size()):
                self._finish(file)
                if file.deleted and not self.gone:
                    self.files.remove(file)
                    self._forget(file)
        return not self.gone or await self._bury()

    async def _bury(self) -> bool:
        """Send what is left of a deleted container; whether there is still something to wait for."""
        for file in self.files:
            if file.fd >= 0:
                if file.compressed or file.changed() or not await self._end_line(file):
                    return True
                self._finish(file)
        if self._current is not None and self._assembler.held:
            if self._stream(self._current) is None:
                return True
            await self._end_held(self._current)
        self._shop.collector.forget([file.id for file in self.files])
        return False

    def close(self) -> None:
        for file in self.files:
            file.close()
