"""One container's lines, in the order in which they were written, to the bus."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from logsvc.model import MAX_CHUNK, Origin, Stream
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.assemble import SEGMENT, Assembler, Held, Piece
from logsvc.sources.kubernetes.losses import span, tell_loss
from logsvc.sources.kubernetes.podlogs import CHECKED, LogFile, Pod, Rewritten
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.kubernetes.series import Series

TURN: Final = MAX_CHUNK
"""Most bytes that one turn reads; more than a SEGMENT."""


class Unwanted(Enum):
    """In place of a stream."""

    LINES = auto()
    """They are left out."""


class Identity(Protocol):
    """Who a container belongs to."""

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | Unwanted | None:
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
    OVER = auto()
    """There are lines, but their tenant has had enough for now."""


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
    clock: Callable[[], float]
    """The loop's clock: to ask for the running loop is a system call each time."""
    grace: float
    """Seconds after which the end of a file that a later one has replaced counts as a line, newline or not."""
    quota: Quota


@lru_cache(maxsize=1 << 14)
def _platform(stream: Stream) -> Stream:
    return replace(stream, source="platform")


class Lane:
    """One container: its files, and the lines that are being joined."""

    def __init__(self, shop: Shop, pod_folder: str, container: str, pod: Pod) -> None:
        self.pod_folder = pod_folder
        self.container = container
        self.series = Series(shop.root, f"{pod_folder}/{container}", pod.uid, shop.collector, shop.scratch)
        self.busy = False
        """Somebody takes turns."""
        self.idle_since = 0.0
        """When something was read last, by the loop's clock."""
        self.trouble = ""
        """The last error of its files, so that it is said once."""
        self.tenant = ""
        """Whose lines are over the quota."""
        self._shop = shop
        self._pod = pod
        self._assembler = Assembler(shop.now)
        self._current: LogFile | None = None
        self._placed = False

    @property
    def name(self) -> str:
        return self.series.name

    @property
    def uid(self) -> str:
        return self._pod.uid

    # ---- finding the place again

    def lost_place(self) -> None:
        """Something was read that may not have been sent: begin again where the collector says."""
        self._placed = False

    async def _restore(self) -> None:
        """Go to the places that the collector knows, as after a crash; what was read and not sent is read again."""
        self._assembler = Assembler(self._shop.now)
        self._current = None
        placed = self.series.restore()
        if placed:
            self._current = placed[-1]
            await self._hold_again(placed, self._shop.collector.positions[placed[-1].id])
        self._placed = True

    async def _hold_again(self, placed: Sequence[LogFile], origin: Origin) -> None:
        """Read the parts of unfinished lines again; what else there is up to the place was sent."""
        last = placed[-1]
        first, at = origin.held[0] if origin.held else (last.id, last.position)
        names = [file.id for file in placed]
        if first not in names:
            self.series.lose_held(origin, last)
            return
        for file in placed[names.index(first) :]:
            finished = file.finished
            if not await self.series.reopen(file):
                continue
            stop = origin.end if file is last else file.size()
            self._enter(file, at)
            await self._replay(file, at, stop)
            file.place(stop, file.before(stop))
            if finished:
                file.finish()
            at = 0
        self._assembler.retain(origin.held)

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
        if not self._placed:
            await self._restore()
        if self.series.losses:
            return await self._tell()
        found = await self._pick()
        if found is None:
            return Turn.MORE if self.series.losses else Turn.QUIET
        file, data = found
        stream = self._stream(file.name.restart)
        if not isinstance(stream, Stream):
            return self._no_stream(stream)
        if self._shop.quota.wait(stream.tenant):
            self.tenant = stream.tenant
            return Turn.OVER
        if file is not self._current and not await self._move_on(file):
            return Turn.QUIET
        begin = len(file.tail)
        pieces, end = self._assembler.feed(file.id, file.position, data, begin)
        if end == file.position:
            file.unfinished(len(data) - begin, self._shop.clock())
            return Turn.MORE
        start = file.position
        await self._send(file, stream, pieces, data)
        self._shop.quota.take(stream.tenant, end - start)
        if not pieces or pieces[-1].end < end:
            self._shop.collector.moved(self._origin(file, start, end, data, self._assembler.held))
        file.moved(end, data, begin + end - start)
        return self._after(file, data, begin + end - start, full=len(data) - begin == TURN)

    def _after(self, file: LogFile, data: bytes, taken: int, *, full: bool) -> Turn:
        """Whether it is worth to look again at once: mostly it isn't, and who writes much fills larger chunks."""
        if full:
            file.seen = max(file.seen, file.size())
            return Turn.MORE
        rest = len(data) - taken
        if file is not self.series.files[-1] or (rest and data.find(b"\n", taken) >= 0):
            return Turn.MORE
        file.unfinished(rest, self._shop.clock())
        return Turn.QUIET

    async def _send(self, file: LogFile, stream: Stream, pieces: Sequence[Piece], data: bytes) -> None:
        """Append pieces one after the other, as what the platform says is another stream of the same partition."""
        start = file.position
        for piece in pieces:
            target = _platform(stream) if piece.platform else stream
            place = self._origin(file, start, piece.end, data, piece.held)
            await self._shop.collector.append(target, piece.value, place, partial=piece.partial)
            start = piece.end

    def _no_stream(self, unwanted: Unwanted | None) -> Turn:
        if unwanted is None:
            return Turn.UNKNOWN
        self._assembler = Assembler(self._shop.now)
        self._current = None
        self.series.pass_over()
        return Turn.QUIET

    def _origin(self, file: LogFile, start: int, end: int, data: bytes, held: Held) -> Origin:
        """Of `file[start:end]`, where `data` is the file's tail and what is behind it."""
        stop = end - file.position + len(file.tail)
        return Origin(self._shop.collector.node, file.id, start, end, crc32(data[max(stop - CHECKED, 0) : stop]), held)

    def _stream(self, restart: int) -> Stream | Unwanted | None:
        pod = self._pod
        return self._shop.identity.stream(pod.namespace, pod.name, pod.uid, self.container, restart)

    async def _pick(self) -> tuple[LogFile, bytes] | None:
        """The oldest file that has something new, and what that is, with its tail before it."""
        files = [file for file in self.series.files if not file.finished]
        for number, file in enumerate(files):
            data = self._read(file) if await self.series.unpack(file) else None
            if self.series.losses:
                return None
            if data is None:
                continue
            # Whoever writes begins the next file before it lets go of this one: look behind once more.
            for earlier in files[:number]:
                if earlier.fd >= 0 and (again := self._read(earlier)) is not None:
                    return earlier, again
            return file, data
        return None

    def _read(self, file: LogFile) -> bytes | None:
        """The tail and what is new behind it; None where nothing is."""
        try:
            data = file.read(TURN)
        except Rewritten:
            self.series.begin_anew(file)
            return None
        if len(data) <= len(file.tail) + file.incomplete:
            if file.damaged:
                self.series.end_damaged(file)
            return None
        if file.id:
            return data
        if not self.series.identify(file):
            file.unfinished(len(data), self._shop.clock())
            return None
        if file.finished:
            return None
        return self._read(file) if file.position else data

    async def _move_on(self, file: LogFile) -> bool:
        """Leave what was read for a later file; False while the last line there may still be being written."""
        for earlier in self.series.files:
            if earlier is file:
                break
            if earlier.fd >= 0 and earlier.incomplete and not await self._end_line(earlier):
                return False
        if self._current is not None and self._current.name.restart != file.name.restart:
            await self._end_held(self._current)
        self._current = file
        return True

    async def _end_line(self, file: LogFile) -> bool:
        """Send the rest of a file that has no newline at its end, once it had the time to get one."""
        stream = self._stream(file.name.restart)
        if not isinstance(stream, Stream) or self._shop.clock() - file.since < self._shop.grace:
            return False
        if not file.id and not self.series.identify(file, final=True):
            return False
        try:
            data = file.read(TURN)
        except Rewritten:
            self.series.begin_anew(file)
            return True
        begin = len(file.tail)
        start, end = file.position, file.position + len(data) - begin
        if end > start:
            pieces, _ = self._assembler.feed(file.id, start, data + b"\n", begin)
            pieces = [piece._replace(end=min(piece.end, end)) for piece in pieces]
            await self._send(file, stream, pieces, data)
            self._shop.collector.moved(self._origin(file, start, end, data, self._assembler.held))
            file.moved(end, data, len(data))
        return True

    async def _end_held(self, file: LogFile) -> None:
        """The process that wrote `file` is gone, and with it the rest of a line that was being joined."""
        stream = self._stream(file.name.restart)
        if isinstance(stream, Stream) and self._assembler.held:
            await self._send(file, stream, self._assembler.end(file.position), file.tail)

    async def _tell(self) -> Turn:
        """Send the notice of a loss to where the lines would have been."""
        loss = self.series.losses[0]
        stream = self._stream(loss.restart)
        if not isinstance(stream, Stream):
            return self._no_stream(stream)
        collector, now = self._shop.collector, self._shop.now()
        unread = f" while it was not being read, {span(collector.since, now)}" if loss.unread else ""
        await tell_loss(collector, stream, loss.reason, loss.text + unread, loss.origin, now)
        self.series.losses.remove(loss)
        return Turn.MORE

    # ---- letting go

    async def sweep(self) -> bool:
        """Close what is read to its end and won't grow; False where nothing is left to do for this container.

        Only while nobody takes turns. Raises BusError, OSError.
        """
        series = self.series
        if not self._placed or series.losses or series.changed():
            return True
        needed = {file for file, _ in self._assembler.held}
        for file in list(series.files):
            kept = not series.gone and (file is series.files[-1] or file is self._current)
            if file.fd >= 0 and not kept and file.id not in needed and not file.incomplete:
                series.drop(file)
        return not series.gone or await self._bury()

    async def _bury(self) -> bool:
        """Send what is left of a deleted container; whether there is still something to wait for."""
        for file in self.series.files:
            if file.fd >= 0 and file.incomplete and not await self._end_line(file):
                return True
        if self._current is not None and self._assembler.held:
            if self._stream(self._current.name.restart) is None:
                return True
            await self._end_held(self._current)
        self.series.bury()
        return False
