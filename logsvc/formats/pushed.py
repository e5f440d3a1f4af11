"""Lines that are posted, NDJSON or plain text, to lines of a chunk. Bytes in, bytes out.

Both readers are fed the body piece by piece and give back whole lines with the place in the body behind each, so that
a post that is repeated can go on where the first one was cut.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import orjson

from logsvc.errors import BadLine
from logsvc.formats import cri
from logsvc.model import MAX_LINE

MAX_OBJECT = 16 * 1024 * 1024
"""Most bytes in one line of NDJSON, which has to be held whole."""

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
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

    def feed(self, data: bytes) -> Iterator[Pushed]: ...

    def finish(self) -> Iterator[Pushed]:
        """What is left when the body has ended without a newline."""


class TextReader:
    """text/plain: a line a line, all of one dyno, at the time they come in (`clock` gives Unix ns)."""

    def __init__(self, labels: Labels, stream: bytes, clock: Callable[[], int], start: int = 0) -> None:
        self._labels, self._stream, self._clock = labels, stream, clock
        self._rest = bytearray()
        self._at = start

    def feed(self, data: bytes) -> Iterator[Pushed]:
        self._rest += data
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        time = cri.format_time(self._clock())
        for line in lines:
            self._at += len(line) + 1
            yield self._pushed(time, bytes(line))
        while len(self._rest) > MAX_LINE:
            part = bytes(self._rest[:MAX_LINE])
            del self._rest[:MAX_LINE]
            self._at += MAX_LINE
            value = cri.format_line(cri.format_time(self._clock()), self._stream, part, partial=True)
            yield Pushed(self._labels, value, partial=True, end=self._at)

    def finish(self) -> Iterator[Pushed]:
        if self._rest:
            self._at += len(self._rest)
            yield self._pushed(cri.format_time(self._clock()), bytes(self._rest))

    def _pushed(self, time: bytes, line: bytes) -> Pushed:
        value, partial = _cut(time, self._stream, line)
        return Pushed(self._labels, value, partial, self._at)


class JsonReader:
    """application/x-ndjson: JSON lines as they are read from here; of each only `message` has to be there.

    `time` is now and `stream` is stdout where they are missing, `process` and `dyno` are those of `labels`. What else
    an object holds is left out. Blank lines count for nothing.
    """

    def __init__(self, labels: Labels, stream: bytes, clock: Callable[[], int], start: int = 0) -> None:
        self._labels, self._stream, self._clock = labels, stream, clock
        self._rest = bytearray()
        self._at = start
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Pushed]:
        self._rest += data
        lines = self._rest.split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_OBJECT:
            raise BadLine(self._number + len(lines) + 1, f"longer than {MAX_OBJECT} bytes")
        self._rest = rest
        for line in lines:
            self._at += len(line) + 1
            yield from self._read(line)

    def finish(self) -> Iterator[Pushed]:
        self._at += len(self._rest)
        yield from self._read(self._rest)

    def _read(self, line: bytearray) -> Iterator[Pushed]:
        self._number += 1
        if not line.strip():
            return
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
        value, partial = _cut(self._time(fields), self._stream_of(fields), message.encode())
        yield Pushed(labels, value, partial, self._at)

    def _name(self, fields: dict[str, Any], name: str, default: str) -> str:
        text = fields.get(name, default)
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise BadLine(self._number, f"`{name}` isn't a name of letters, digits, `.`, `_` and `-`")
        return text

    def _time(self, fields: dict[str, Any]) -> bytes:
        text = fields.get("time")
        if text is None:
            return cri.format_time(self._clock())
        if not isinstance(text, str) or not _TIME.fullmatch(text.encode()):
            raise BadLine(self._number, "`time` isn't an RFC 3339 time")
        return text.encode()

    def _stream_of(self, fields: dict[str, Any]) -> bytes:
        source = fields.get("source", "app")
        if source != "app":
            raise BadLine(self._number, "`source` is always app for lines that are posted")
        stream = fields.get("stream")
        if stream not in {None, "stdout", "stderr"}:
            raise BadLine(self._number, "`stream` is stdout or stderr")
        return self._stream if stream is None else str(stream).encode()


def _cut(time: bytes, stream: bytes, message: bytes) -> tuple[bytes, bool]:
    """A message as lines of a chunk: one for each line in it, and further ones where one is too long."""
    value = b"".join(
        cri.format_line(time, stream, line[at : at + MAX_LINE], partial=at + MAX_LINE < len(line))
        for line in message.split(b"\n")
        for at in range(0, len(line) or 1, MAX_LINE)
    )
    return value, len(message) > MAX_LINE
