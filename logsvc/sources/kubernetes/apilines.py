"""From what the API server gives of a log to the values of chunks, each line once. Pure: bytes and places in and out.

A log has no positions there. What is asked for again begins some lines before its end, so the last line that was taken
is looked for, by its time and a hash, and what comes behind it is new. It is not asked for by time: the kubelet then
leaves out every line whose time is earlier, also those that were written after a clock was set back. Times alone won't
tell a line either: two can have the same one, and stdout and stderr may be written a little out of order.

Source of the format: `ReadLogs` and `logWriter` of cri-client/pkg/logs/logs.go, of Kubernetes 1.34. The kubelet joins
the parts of a line, doesn't say which stream it came from, and writes its own errors among the lines, without a time.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from logsvc.formats import cri
from logsvc.model import MAX_CHUNK, MAX_LINE

_TIMED: Final = re.compile(rb"^([0-9]{4}-[0-9]{2}-[0-9T:]{11}\.[0-9]{9}Z) ", re.MULTILINE)
_HEAD: Final = 31
"""Characters of a time and the space behind it."""

_OUT_OF_ORDER: Final = timedelta(seconds=1)
"""Lines of stdout and stderr are out of order by less than this."""

_STDOUT: Final = b"stdout"
"""Under which all is filed: which stream a line came from the API server doesn't say."""


class Place(NamedTuple):
    """How far a log was taken."""

    taken: int = 0
    """Grows with each chunk, so that of two places the later one can be told."""
    time: str = ""
    """Of the last whole line; empty where none was taken."""
    check: int = 0
    """CRC-32 of that line, its time included."""
    same: int = 0
    """How many lines of that time and hash were taken, that one included."""
    inside: int = 0
    """Bytes that were taken of the message of the line behind it."""


class Piece(NamedTuple):
    """The value of one chunk, and the place behind it."""

    value: bytes
    place: Place
    partial: bool


class _Long(NamedTuple):
    """A line of which parts were taken."""

    time: bytes
    check: int
    """CRC-32 of its time and those parts."""


class ApiLines:
    """Takes one answer of the API server, as bytes come."""

    def __init__(self, place: Place) -> None:
        """The answer begins before `place`, and nothing is new before its line was found."""
        self.place = place
        self.seeking = bool(place.time)
        self.first = ""
        """Time of the first line of the answer."""
        self.went_back = False
        """The log goes on with times of before: the node's clock was set back, or the kubelet gives a file again.
        Nothing more is taken."""
        self._same = place.same
        """Lines like the last one that are still to be found."""
        self._newest = b""
        """Time below which the next lines don't go far; nothing where they may."""
        self._inside = place.inside
        """Bytes of the next line's message that were taken from an answer before."""
        self._long: _Long | None = None
        self._rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        """Take what came; the pieces that are whole now."""
        self._rest += data
        if not self.first and (timed := _TIMED.search(self._rest)):
            self.first = timed[1].decode()
        if self.seeking:
            self._seek()
        if self.seeking or self.went_back or (self._inside and not self._enter()):
            return []
        pieces: list[Piece] = []
        while not self.went_back:
            if self._long is None and (end := self._rest.rfind(b"\n") + 1):
                block, self._rest = self._rest[:end], self._rest[end:]
                pieces += self._block(block)
            if (self._long is None and not self._begin_long()) or not self._go_on_long(pieces):
                break
        return pieces

    def end(self) -> list[Piece]:
        """The run is over: a line that has no end has one now."""
        return self.feed(b"\n") if self._long is not None or _TIMED.match(self._rest) else []

    def told(self) -> None:
        """Something that is no line was appended behind the place."""
        self.place = self.place._replace(taken=self.place.taken + 1)

    # ---- finding the place again

    def _seek(self) -> None:
        data, end = self._rest, self._rest.rfind(b"\n") + 1
        wanted = self.place.time.encode() + b" "
        at = 0
        while self.seeking and (at := data.find(wanted, at, end)) >= 0:
            newline = data.find(b"\n", at)
            if (at == 0 or data[at - 1] == ord("\n")) and crc32(data[at:newline]) == self.place.check:
                self._same -= 1
                self.seeking = self._same > 0
            at = newline + 1
        self._rest = data[end if self.seeking else at :]

    def _enter(self) -> bool:
        """Leave out what was taken of a long line; whether it is here."""
        stop = _HEAD + self._inside
        if self._rest.find(b"\n", 0, stop) >= 0:
            self._inside = 0  # the file that it was in is gone
            self.place = self.place._replace(inside=0)
            return True
        if len(self._rest) < stop:
            return False
        self._long = _Long(self._rest[: _HEAD - 1], crc32(self._rest[:stop]))
        self._rest = self._rest[stop:]
        self._inside = 0
        return True

    # ---- lines that are very long

    def _begin_long(self) -> bool:
        if len(self._rest) <= _HEAD + MAX_LINE or not _TIMED.match(self._rest):
            return False
        self._long = _Long(self._rest[: _HEAD - 1], crc32(self._rest[:_HEAD]))
        self._rest = self._rest[_HEAD:]
        return True

    def _go_on_long(self, pieces: list[Piece]) -> bool:
        """Take what there is of the long line; whether it has come to its end."""
        while (end := self._rest.find(b"\n", 0, MAX_LINE + 1)) < 0 and len(self._rest) > MAX_LINE:
            pieces.append(self._part(MAX_LINE, last=False))
        if end < 0:
            return False
        pieces.append(self._part(end, last=True))
        self._rest = self._rest[1:]
        return True

    def _part(self, size: int, *, last: bool) -> Piece:
        """A part of a long line as a piece."""
        assert self._long is not None
        part, self._rest = self._rest[:size], self._rest[size:]
        time, check = self._long.time, crc32(part, self._long.check)
        if last:
            self._long = None
            place = Place(self.place.taken + 1, time.decode(), check, 1)
        else:
            self._long = _Long(time, check)
            place = self.place._replace(taken=self.place.taken + 1, inside=self.place.inside + size)
        return self._piece(cri.format_line(_valid(time), _STDOUT, part, partial=not last), place, partial=not last)

    # ---- whole lines

    def _block(self, block: bytes) -> Iterator[Piece]:
        """Of lines as they came. Almost all blocks are taken in one pass."""
        times = _TIMED.findall(block)
        if times and (times[0] < self._newest or any(after < before for before, after in pairwise(times))):
            block = self._up_to_step_back(block)
        elif times:
            self._newest = times[-1]
        value = _TIMED.sub(rb"\1 stdout F ", block)
        if len(value) <= MAX_CHUNK and cri.clean(value) == len(value):
            if value:
                yield self._piece(value, self._behind(block))
            return
        lines: list[bytes] = []
        size = at = 0
        while at < len(block):
            line = block[at : block.index(b"\n", at)]
            timed = _TIMED.match(line)  # others are the kubelet's own words, or the rest of what wasn't asked for
            if timed and len(line) > _HEAD + MAX_LINE:
                self._rest = block[at:] + self._rest
                break
            if timed and size + len(line) + _HEAD > MAX_CHUNK:
                yield self._gathered(lines)
                lines, size = [], 0
            if timed:
                lines.append(line)
                size += len(line) + _HEAD
            at += len(line) + 1
        if lines:
            yield self._gathered(lines)

    def _gathered(self, lines: list[bytes]) -> Piece:
        value = b"".join([cri.format_line(_valid(line[: _HEAD - 1]), _STDOUT, line[_HEAD:]) for line in lines])
        return self._piece(value, self._behind(b"\n".join(lines) + b"\n"))

    def _up_to_step_back(self, block: bytes) -> bytes:
        """What comes before the first line that is earlier than one before it by more than is usual."""
        for match in _TIMED.finditer(block):
            time = match[1]
            if time < self._newest and _moment(self._newest.decode()) - _moment(time.decode()) > _OUT_OF_ORDER:
                self.went_back = True
                return block[: match.start()]
            self._newest = max(time, self._newest)
        return block

    def _behind(self, block: bytes) -> Place:
        """The place behind the last of some whole lines."""
        line = block[block.rfind(b"\n", 0, -1) + 1 :]
        same = block.count(line) if block.count(line[:_HEAD]) > 1 else 1
        time, check = line[: _HEAD - 1].decode(), crc32(line[:-1])
        if (time, check) == (self.place.time, self.place.check):
            same += self.place.same
        return Place(self.place.taken + 1, time, check, same)

    def _piece(self, value: bytes, place: Place, *, partial: bool = False) -> Piece:
        self.place = place
        return Piece(value, place, partial)


def _valid(time: bytes) -> bytes:
    """A time that can be on the bus: a runtime writes no other."""
    return time if cri.read_part(time + b" stdout F ") is not None else cri.format_time(0)


def _moment(time: str) -> datetime:
    try:
        return datetime.fromisoformat(time[:26] + "+00:00")
    except ValueError:
        return datetime(1, 1, 2, tzinfo=UTC)
