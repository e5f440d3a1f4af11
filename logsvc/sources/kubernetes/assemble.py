"""From the bytes of a container's log files to the values of chunks. Pure: bytes and positions in and out.

Almost all bytes are runs of whole `F` lines and go through as they are, checked in one pass. Only where that fails a
line is looked at by itself: parts (tag `P`) are joined, what is not CRI is wrapped so that it is.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from logsvc.formats import cri
from logsvc.model import MAX_CHUNK, MAX_LINE

SEGMENT: Final = MAX_LINE
"""A line of a file longer than this is taken in segments of this many bytes, as if a runtime had cut it."""

Held = tuple[tuple[str, int], ...]


class Piece(NamedTuple):
    """The value of one chunk and the place in the file that it brings us to."""

    value: bytes
    end: int
    """Where in the file to go on once this is sent."""
    held: Held
    """As in Origin."""
    partial: bool
    platform: bool
    """The lines are the platform's, not the container's."""


class _HeldPart(NamedTuple):
    file: str
    at: int
    time: bytes
    message: bytes


class _Pending:
    """The parts of an unfinished line, at most MAX_LINE bytes of message."""

    __slots__ = ("parts", "size")

    def __init__(self, part: _HeldPart) -> None:
        self.parts = [part]
        self.size = len(part.message)

    def add(self, part: _HeldPart) -> None:
        self.parts.append(part)
        self.size += len(part.message)

    def line(self, stream: bytes, last: bytes = b"", *, partial: bool) -> bytes:
        message = b"".join([part.message for part in self.parts]) + last
        return cri.format_line(self.parts[0].time, stream, message, partial=partial)


_Key = tuple[bytes, bool]


class _Output:
    """Gathers lines into pieces: a new one where the next line doesn't fit or is filed elsewhere."""

    __slots__ = ("_lines", "_partial", "_platform", "_size", "end", "pieces")

    def __init__(self, end: int) -> None:
        self.pieces: list[Piece] = []
        self.end = end
        """After the last line of the file that was taken whole."""
        self._lines: list[bytes] = []
        self._size = 0
        self._platform = False
        self._partial = False

    def fits(self, size: int, *, platform: bool) -> bool:
        return not self._lines or (self._platform is platform and self._size + size <= MAX_CHUNK)

    def add(self, value: bytes, *, platform: bool = False, partial: bool = False) -> None:
        self._lines.append(value)
        self._size += len(value)
        self._platform = platform
        self._partial = self._partial or partial

    def flush(self, held: Held) -> None:
        if self._lines:
            value = self._lines[0] if len(self._lines) == 1 else b"".join(self._lines)
            self.pieces.append(Piece(value, self.end, held, self._partial, self._platform))
            self._lines, self._size, self._partial = [], 0, False


class Assembler:
    """Lines of one container, over reads, rotations and restarts of the reader.

    What comes out depends on the bytes alone, not on how they were cut into reads, so that a reader that
    starts again at a `Piece.end` with the `held` that belongs to it goes on with the very next line.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives Unix ns: the time of a line that has none, where no line before it had one."""
        self._now = now
        self._pending: dict[_Key, _Pending] = {}
        self._inside: cri.Part | None = None
        """The line longer than SEGMENT that the last byte belongs to; without its message."""
        self._inside_raw = False
        self._time = b""
        """Of the last line that had one."""

    @property
    def held(self) -> Held:
        # A line that is cut goes to the end of the dict, so this is in order of age.
        return tuple((pending.parts[0].file, pending.parts[0].at) for pending in self._pending.values())

    def feed(self, file: str, at: int, data: bytes, begin: int = 0) -> tuple[list[Piece], int]:
        """Take `data[begin:]`, which stands at `at` in `file`; return pieces and the position up to which it is taken.

        At most MAX_CHUNK bytes at once, as whole lines become one chunk. What is left over is the beginning of a
        line; give it again with more behind it. It is also left over where a piece's worth of output was reached by
        lines that grow: then there is at least one piece.
        """
        out = _Output(at)
        origin = at - begin
        here, size = begin, len(data)
        while here < size and not out.pieces:
            if not self._pending and self._inside is None:
                end = cri.clean(data, here)
                if end > here:
                    self._clean(out, data, here, end)
                    here = end
                    out.end = origin + here
                    continue
            newline = data.find(b"\n", here, here + SEGMENT + 1)
            if newline < 0 and size - here <= SEGMENT:
                break
            stop = newline if newline >= 0 else here + SEGMENT
            self._line(out, file, data[here:stop], goes_on=newline < 0)
            here = stop + (newline >= 0)
            out.end = origin + here
        out.flush(self.held)
        return out.pieces, origin + here

    def end(self, at: int) -> list[Piece]:
        """The container is gone: what was held is as whole as it will ever be."""
        out = _Output(at)
        for key in list(self._pending):
            stream, platform = key
            line = self._pending[key].line(stream, partial=False)
            self._make_room(out, len(line), platform=platform)
            out.add(line, platform=platform)
            del self._pending[key]
        self._inside = None
        out.flush(())
        return out.pieces

    def retain(self, held: Held) -> None:
        """After feeding again from the first of `held` on: keep those lines only, from those places on."""
        places = set(held)
        for key, pending in list(self._pending.items()):
            while pending.parts and pending.parts[0][:2] not in places:
                pending.size -= len(pending.parts.pop(0).message)
            if not pending.parts:
                del self._pending[key]

    def enter(self, head: bytes) -> None:
        """Go on inside of a line longer than SEGMENT that begins with `head` (SEGMENT bytes)."""
        part = cri.read_part(head)
        self._inside_raw = part is None
        self._inside = part or self._raw(head)

    def _clean(self, out: _Output, data: bytes, here: int, end: int) -> None:
        self._make_room(out, end - here, platform=False)
        out.add(data[here:end])
        last = data.rfind(b"\n", here, end - 1) + 1 or here
        self._time = data[last : data.index(b" ", last)]

    def _line(self, out: _Output, file: str, line: bytes, *, goes_on: bool) -> None:
        if self._inside is None:
            part = cri.read_part(line)
            raw = part is None
            if part is None:
                part = self._raw(line)
            else:
                self._time = part.time
        else:
            part, raw = self._inside._replace(message=line), self._inside_raw
        if goes_on:
            self._inside, self._inside_raw = part._replace(message=b""), raw
            part = part._replace(partial=True)
        else:
            self._inside = None
        if raw:
            # It may or may not belong to a held line; a line of its own says neither.
            self._emit(out, part)
        else:
            self._part(out, part, _HeldPart(file, out.end, part.time, part.message))

    def _raw(self, line: bytes) -> cri.Part:
        return cri.Part(
            self._time or cri.format_time(self._now()), b"stdout", partial=False, platform=False, message=line
        )

    def _part(self, out: _Output, part: cri.Part, held: _HeldPart) -> None:
        key = part.stream, part.platform
        pending = self._pending.get(key)
        if pending is not None and pending.size + len(part.message) > MAX_LINE:
            line = pending.line(part.stream, partial=True)
            self._make_room(out, len(line), platform=part.platform)
            del self._pending[key]
            out.add(line, platform=part.platform, partial=True)
            pending = None
        if part.partial:
            if pending is None:
                self._pending[key] = _Pending(held)
            else:
                pending.add(held)
        elif pending is None:
            self._emit(out, part)
        else:
            line = pending.line(part.stream, part.message, partial=False)
            self._make_room(out, len(line), platform=part.platform)
            del self._pending[key]
            out.add(line, platform=part.platform)

    def _emit(self, out: _Output, part: cri.Part) -> None:
        line = cri.format_line(part.time, part.stream, part.message, partial=part.partial)
        self._make_room(out, len(line), platform=part.platform)
        out.add(line, platform=part.platform, partial=part.partial)

    def _make_room(self, out: _Output, size: int, *, platform: bool) -> None:
        # Before anything of the line at hand changes the state: the piece ends in front of that line.
        if not out.fits(size, platform=platform):
            out.flush(self.held)
