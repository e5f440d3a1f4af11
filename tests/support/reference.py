"""What lines say, read the slow and plain way: the reference that formats, filters and timelines are held against."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import re2

from logsvc.model import Chunk, Cursor, Filter, Selection, Stream

_LINE = re.compile(rb"(\S+) (stdout|stderr) ([FP]) (.*)", re.DOTALL)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class Known:
    """One line: its place, its time in Unix ns, and the rest as it stands."""

    cursor: Cursor
    time: int
    stream: str
    partial: bool
    message: bytes
    source: Stream

    @property
    def utc(self) -> str:
        """The time as formats show it: UTC, nine digits."""
        seconds, fraction = divmod(self.time, 10**9)
        return f"{(_EPOCH + timedelta(seconds=seconds)):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"

    def fields(self, *, cursor: bool = False) -> dict[str, Any]:
        """The JSON line."""
        fields: dict[str, Any] = {
            "time": self.utc,
            "source": self.source.source,
            "process": self.source.process,
            "dyno": self.source.dyno,
            "stream": self.stream,
            "message": self.message.decode("utf-8", "replace"),
        }
        if self.partial:
            fields["partial"] = True
        if cursor:
            fields["cursor"] = str(self.cursor)
        return fields

    def text(self) -> bytes:
        """Heroku's line."""
        message = self.message.removesuffix(b"\r").replace(b"\r", "␍".encode())
        return f"{self.utc[:26]}+00:00 {self.source.source}[{self.source.dyno}]: ".encode() + message


def known(chunk: Chunk | Selection) -> list[Known]:
    """The lines of a chunk, or those that were selected of one."""
    whole = chunk.chunk if isinstance(chunk, Selection) else chunk
    lines = []
    for number, line in zip(chunk.numbers, chunk.value.split(b"\n")[:-1], strict=True):
        match = _LINE.fullmatch(line)
        assert match is not None, line
        time, stream, tag, message = match.groups()
        at = nanoseconds(time.decode())
        lines.append(Known(whole.cursor(number), at, stream.decode(), tag == b"P", message, whole.stream))
    return lines


def nanoseconds(time: str) -> int:
    """Unix ns of an RFC 3339 time, by the standard library."""
    match = _TIME.fullmatch(time)
    assert match is not None, time
    whole, fraction, zone = match.groups()
    at = datetime.fromisoformat(whole + zone.replace("Z", "+00:00")) - _EPOCH
    return (at.days * 86_400 + at.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))


def passes(wanted: Filter, line: Known) -> bool:
    """Whether a line passes a filter, field by field."""
    if wanted.since is not None and line.time < wanted.since:
        return False
    if wanted.until is not None and line.time >= wanted.until:
        return False
    if line.source.is_notice:
        return True
    for name in ("process", "dyno", "source"):
        chosen = getattr(wanted, name)
        if chosen and getattr(line.source, name) not in chosen:
            return False
        if getattr(line.source, name) in getattr(wanted, f"not_{name}"):
            return False
    if (wanted.stream and line.stream not in wanted.stream) or line.stream in wanted.not_stream:
        return False
    prefix = "(?i)" if wanted.ignore_case else ""

    def holds(pattern: str) -> bool:
        return re2.search(prefix + pattern, line.message) is not None

    return (
        all(holds(re2.escape(text)) for text in wanted.grep)
        and all(holds(pattern) for pattern in wanted.grep_re)
        and not any(holds(re2.escape(text)) for text in wanted.exclude)
        and not any(holds(pattern) for pattern in wanted.exclude_re)
    )
