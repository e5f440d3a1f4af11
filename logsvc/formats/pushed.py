"""Lines that are posted, NDJSON or plain text, to lines of a chunk. Bytes in, bytes out.

Both readers are fed the body piece by piece and give back whole lines with the place in the body behind each, so that
a post that is repeated can go on where the first one was cut.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import orjson

from logsvc.errors import BadLine
from logsvc.formats import cri
from logsvc.model import MAX_LINE

MAX_OBJECT = 16 * 1024 * 1024
"""Most bytes in one line of NDJSON, which has to be held whole."""

MAX_NEWLINES = 100_000
"""Most newlines in one message: each makes a line, and costs more than its byte."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 4, 11, tzinfo=UTC)
"""Between these a time in Unix ns is a positive Int64."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class Labels(NamedTuple):
    """Where a line is filed within its app."""

    process: str
    dyno: str


class Pushed(NamedTuple):
    """One posted line as lines of a chunk (more than one where it is longer than MAX_LINE or has newlines in it)."""

    labels: Labels
    value: bytes
    partial: bool
    """At least one line of `value` goes on in the next."""
    end: int
    """Place in the body behind it."""


class Reader(Protocol):
    """Turns the pieces of a body into lines. Raises BadLine."""

    at: int
    """Place in the body up to which it is read."""

    def feed(self, data: bytes) -> Iterator[Pushed]: ...

    def finish(self) -> Iterator[Pushed]:
        """What is left when the body has ended without a newline."""


class TextReader:
    """text/plain: a line a line, all of one dyno, at the time they come in (`clock` gives Unix ns)."""

    def __init__(self, labels: Labels, stream: bytes, clock: Callable[[], int], start: int = 0) -> None:
        self._labels, self._stream, self._clock = labels, stream, clock
        self._rest = bytearray()
        self.at = start

    def feed(self, data: bytes) -> Iterator[Pushed]:
        lines, self._rest = _split(self._rest, data)
        time = cri.format_time(self._clock())
        for line in lines:
            yield from self._parts(time, line)
            yield self._pushed(time, line, newline=1)
        yield from self._parts(time, self._rest)

    def finish(self) -> Iterator[Pushed]:
        if self._rest:
            yield self._pushed(cri.format_time(self._clock()), self._rest, newline=0)

    def _parts(self, time: bytes, line: bytearray) -> Iterator[Pushed]:
        """Take what is too much for one line from the front of `line`; a place of its own behind each part."""
        while len(line) > MAX_LINE:
            self.at += MAX_LINE
            value = cri.format_line(time, self._stream, bytes(line[:MAX_LINE]), partial=True)
            yield Pushed(self._labels, value, partial=True, end=self.at)
            del line[:MAX_LINE]

    def _pushed(self, time: bytes, line: bytearray, *, newline: int) -> Pushed:
        self.at += len(line) + newline
        return Pushed(self._labels, cri.format_line(time, self._stream, bytes(line)), partial=False, end=self.at)


class JsonReader:
    """application/x-ndjson: JSON lines as they are read from here; of each only `message` has to be there.

    `time` is now and `stream` is stdout where they are missing, `process` and `dyno` are those of `labels`. What else
    an object holds is left out. Blank lines count for nothing.
    """

    def __init__(self, labels: Labels, stream: bytes, clock: Callable[[], int], start: int = 0) -> None:
        self._labels, self._stream, self._clock = labels, stream, clock
        self._rest = bytearray()
        self.at = start
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Pushed]:
        lines, self._rest = _split(self._rest, data)
        for line in lines:
            if line:
                yield from self._read(line, newline=1)
            else:
                self._number += 1
                self.at += 1
        if len(self._rest) > MAX_OBJECT:
            raise BadLine(self._number + 1, f"longer than {MAX_OBJECT} bytes")

    def finish(self) -> Iterator[Pushed]:
        yield from self._read(self._rest, newline=0)

    def _read(self, line: bytearray, *, newline: int) -> Iterator[Pushed]:
        self._number += 1
        if pushed := self._pushed(line, self.at + len(line) + newline):
            yield pushed
        self.at += len(line) + newline

    def _pushed(self, line: bytearray, end: int) -> Pushed | None:
        if len(line) > MAX_OBJECT:
            raise BadLine(self._number, f"longer than {MAX_OBJECT} bytes")
        if not line.strip():
            return None
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadLine(self._number, "not JSON") from error
        if not isinstance(fields, dict):
            raise BadLine(self._number, "not a JSON object")
        message = fields.get("message")
        if not isinstance(message, str):
            raise BadLine(self._number, "`message` is missing or not a string")
        process = self._name(fields, "process", self._labels.process)
        default = self._labels.dyno if process == self._labels.process else f"{process}.1"
        labels = Labels(process, self._name(fields, "dyno", default))
        if message.count("\n") > MAX_NEWLINES:
            raise BadLine(self._number, f"`message` has more than {MAX_NEWLINES} newlines")
        value, partial = _cut(self._time(fields), self._stream_of(fields), message.encode())
        return Pushed(labels, value, partial, end)

    def _name(self, fields: dict[str, Any], name: str, default: str) -> str:
        text = fields.get(name, default)
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise BadLine(self._number, f"`{name}` isn't a name of letters, digits, `.`, `_` and `-`")
        return text

    def _time(self, fields: dict[str, Any]) -> bytes:
        text = fields.get("time")
        if text is None:
            return cri.format_time(self._clock())
        if not isinstance(text, str) or not _is_time(text):
            raise BadLine(self._number, "`time` isn't an RFC 3339 time")
        return text.encode()

    def _stream_of(self, fields: dict[str, Any]) -> bytes:
        source = fields.get("source", "app")
        if source != "app":
            raise BadLine(self._number, "`source` is always app for lines that are posted")
        stream = fields.get("stream")
        if stream is None:
            return self._stream
        if not isinstance(stream, str) or stream not in {"stdout", "stderr"}:
            raise BadLine(self._number, "`stream` is stdout or stderr")
        return stream.encode()


def _split(rest: bytearray, data: bytes) -> tuple[list[bytearray], bytearray]:
    """The whole lines of `rest` and `data` together, and what is left; looks at `data` alone."""
    if b"\n" not in data:
        rest += data
        return [], rest
    lines = bytearray(data).split(b"\n")
    lines[0] = rest + lines[0]
    left = lines.pop()
    return lines, left


def _is_time(text: str) -> bool:
    """Whether it is a time of RFC 3339 that calendars have and Unix ns can say."""
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    try:
        at = datetime.fromisoformat(match[1] + match[2])
    except ValueError:
        return False
    return _FIRST <= at < _LAST


def _cut(time: bytes, stream: bytes, message: bytes) -> tuple[bytes, bool]:
    """A message as lines of a chunk: one for each line in it, and further ones where one is too long."""
    lines = message.split(b"\n")
    value = b"".join(
        cri.format_line(time, stream, line[at : at + MAX_LINE], partial=at + MAX_LINE < len(line))
        for line in lines
        for at in range(0, len(line) or 1, MAX_LINE)
    )
    return value, max(map(len, lines)) > MAX_LINE
