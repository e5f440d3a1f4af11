"""The nouns of the service: streams, chunks, cursors, origins, filters. No I/O.

Everything else is said in these words. A *line* has no class of its own on the hot path: it is a slice of a
chunk's bytes until somebody looks at it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, Self
from zlib import crc32

import orjson

from logsvc.errors import BadCursor, BadKey

FORMAT_VERSION: Final = 1
"""Version of the record format, in the header `v`. Readers take this one and the one before."""

MAX_CHUNK: Final = 512 * 1024
"""Most bytes in a chunk's value."""

MAX_LINE: Final = 256 * 1024
"""Most bytes of message in one line; a longer one goes on in further lines, all but the last tagged `P`."""


def kept_json(value: object) -> bytes:
    """JSON (UTF-8, no spaces) to keep: a copy, as the bytes of orjson hold the 4 KiB that they were written in."""
    return b"%b" % orjson.dumps(value)


class AppId(NamedTuple):
    """An app within its tenant: the unit of isolation, ordering and reading."""

    tenant: str
    app: str

    def partition(self, partitions: int) -> int:
        """The partition that holds everything of this app: CRC-32 of `tenant NUL app`, modulo `partitions`."""
        return crc32(f"{self.tenant}\0{self.app}".encode()) % partitions


@dataclass(frozen=True, slots=True)
class Stream:
    """Where lines come from: one incarnation of one container, filed under a tenant's app.

    The key of a record is `key()`. Keys repeat, so `Stream.of` interns them: the same key gives the same object, and
    whoever groups by stream compares identities.
    """

    tenant: str
    app: str
    process: str
    """Process type: `web`, `worker`, `release`, …"""
    dyno: str
    """One pod: `web.1`, `worker.2`, or the pod's name."""
    source: str
    """`app` for what a process wrote, `platform` for what the platform says of it."""
    incarnation: str
    """Tells restarts of the same dyno apart: pod uid and restart count."""
    retention: int = 0
    """Retention class, 0 to 7."""

    @property
    def app_id(self) -> AppId:
        return AppId(self.tenant, self.app)

    @property
    def is_notice(self) -> bool:
        """Whether its lines are logsvc's own notices of gaps: shown whatever the filter."""
        return self.source == "platform" and self.process == "logsvc"

    def key(self) -> bytes:
        """Canonical JSON (UTF-8, sorted names, no spaces): the record's key."""
        # Spelled out in order: orjson sorts the names of a dict, but not those of a dataclass.
        return kept_json(
            {
                "app": self.app,
                "dyno": self.dyno,
                "incarnation": self.incarnation,
                "process": self.process,
                "retention": self.retention,
                "source": self.source,
                "tenant": self.tenant,
            }
        )

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def of(key: bytes) -> "Stream":
        """The stream of a record's key, interned.

        Raises BadKey where the key isn't one that `key()` wrote.
        """
        try:
            fields = orjson.loads(key)
            stream = Stream(**fields)
        except (ValueError, TypeError) as error:
            raise BadKey(f"not a stream's key ({len(key)} bytes)") from error
        names = (stream.tenant, stream.app, stream.process, stream.dyno, stream.source, stream.incarnation)
        if not all(type(name) is str for name in names) or type(stream.retention) is not int:
            raise BadKey("a stream's key with a value of the wrong type")
        return stream


def notices_of(app: AppId, retention: int = 0) -> Stream:
    """The stream of logsvc's own notices in an app's timeline."""
    return Stream(app.tenant, app.app, "logsvc", "logsvc", "platform", "", retention)


_CURSOR = re.compile(r"(\d{1,9})\.(\d{1,5})\.(\d{1,18})\.(-1|\d{1,9})", re.ASCII)


class Cursor(NamedTuple):
    """A position in a timeline: everything up to and including line `line` of the chunk at `offset`.

    It is the name of a line (`id` of an SSE event, `cursor` of a JSON line) and, read as "after", where a reader
    goes on. Line -1 is the place before the chunk's first line. Positions only, never authority: a cursor of another
    app's partition is refused. Cursors of one app compare in timeline order.
    """

    epoch: int
    partition: int
    offset: int
    line: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.partition}.{self.offset}.{self.line}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`epoch.partition.offset.line`, decimal. Raises BadCursor."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise BadCursor("a cursor looks like 1.37.12345.6")
        return cls(*map(int, match.groups()))


class Origin(NamedTuple):
    """Where a chunk was read from, so that a source knows after a crash what the bus has already.

    Written as the header `o` (JSON array, this order). `file` names the bytes and not the path: pod uid, container
    and restart, and a hash of the first line, so a renamed or compressed file is still the same file.
    """

    node: str
    file: str
    start: int
    """First byte of the file that this chunk covers."""
    end: int
    """Byte after the last one; a source goes on here."""
    check: int = 0
    """CRC-32 of the up to 64 bytes before `end`: tells a rewritten file from a grown one."""
    held: tuple[tuple[str, int], ...] = ()
    """Unfinished lines (tag `P`) before `end` that no chunk holds yet: (file, first byte), oldest first."""

    def header(self) -> bytes:
        return kept_json(tuple(self))

    @classmethod
    def parse(cls, header: bytes) -> Self:
        node, file, start, end, check, held = orjson.loads(header)
        return cls(node, file, start, end, check, tuple((name, at) for name, at in held))


@dataclass(slots=True, eq=False)
class Chunk:
    """A run of complete lines of one stream, verbatim in CRI format, at its place in the timeline.

    `value` is `<RFC 3339 time> <stdout|stderr> <F|P> <message>\\n`, repeated. Every line is well formed: whatever
    writes to the bus has checked that, so readers don't. `indices` is None where the chunk is whole; what comes from
    the store may be some of a chunk's lines, then it names them.
    """

    epoch: int
    partition: int
    offset: int
    appended: int
    """When the bus took it, Unix time in ms (Kafka's LogAppendTime)."""
    stream: Stream
    value: bytes
    origin: bytes = b""
    """Header `o`, unparsed (see Origin); empty where nobody needs to recover it."""
    partial: bool = False
    """Header `p`: at least one line is tagged `P` and goes on in the stream's next line."""
    indices: list[int] | None = field(default=None)

    @property
    def numbers(self) -> Sequence[int]:
        """The place of each line of `value` in the chunk as it was written."""
        return self.indices if self.indices is not None else range(self.value.count(b"\n"))

    def cursor(self, line: int) -> Cursor:
        return Cursor(self.epoch, self.partition, self.offset, line)


class Selection(NamedTuple):
    """Lines of one chunk that somebody gets."""

    chunk: Chunk
    value: bytes
    """The lines as in Chunk.value."""
    numbers: Sequence[int]
    """The place of each line in the chunk."""

    @property
    def whole(self) -> bool:
        """Whether nothing was left out, so that others who watch can share what is made of it."""
        return self.value is self.chunk.value


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines of an app somebody wants. Empty means all.

    Values of one field mean *or*, but those of `grep` and `grep_re` mean *and*, those of `exclude`, `exclude_re` and
    `not_…` *none of*. `process`, `dyno` and `source`, with `not_` or without, and `ps` are decided by the stream, once
    a chunk; the rest by the line. Notices pass always.
    """

    process: frozenset[str] = frozenset()
    dyno: frozenset[str] = frozenset()
    source: frozenset[str] = frozenset()
    ps: frozenset[str] = frozenset()
    """Process types or dynos: Heroku's parameter `dyno` may be either."""
    stream: frozenset[str] = frozenset()
    """`stdout`, `stderr`."""
    not_process: frozenset[str] = frozenset()
    not_dyno: frozenset[str] = frozenset()
    not_source: frozenset[str] = frozenset()
    not_stream: frozenset[str] = frozenset()
    grep: tuple[str, ...] = ()
    """Literals that the message must hold."""
    grep_re: tuple[str, ...] = ()
    """RE2 patterns that must match somewhere in the message."""
    exclude: tuple[str, ...] = ()
    """Literals that the message must not hold."""
    exclude_re: tuple[str, ...] = ()
    """RE2 patterns that must match nowhere in the message."""
    ignore_case: bool = False
    """Literals and patterns fold case, by Unicode's simple folding, as RE2's `(?i)` does."""
    since: int | None = None
    """Line time, Unix ns, inclusive."""
    until: int | None = None
    """Line time, Unix ns, exclusive."""

    def takes(self, stream: Stream) -> bool:
        """Whether lines of `stream` can pass."""
        return stream.is_notice or (
            (not self.process or stream.process in self.process)
            and (not self.dyno or stream.dyno in self.dyno)
            and (not self.source or stream.source in self.source)
            and (not self.ps or stream.process in self.ps or stream.dyno in self.ps)
            and stream.process not in self.not_process
            and stream.dyno not in self.not_dyno
            and stream.source not in self.not_source
        )

    @property
    def reads_lines(self) -> bool:
        """Whether the line itself must be looked at."""
        texts = self.grep or self.grep_re or self.exclude or self.exclude_re
        return bool(self.stream or self.not_stream or texts or self.since is not None or self.until is not None)


EVERYTHING: Final = Filter()
