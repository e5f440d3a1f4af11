"""Statements, and bytes and columns to and from them. No I/O, and the same for the embedded engine and a server.

Whatever a caller sends goes into a statement as a query parameter, never as text.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from struct import Struct
from typing import Any, Final, NamedTuple

import re2

from logsvc.formats import cri
from logsvc.model import AppId, Chunk, Cursor, Filter, Stream
from logsvc.purges import Purge
from logsvc.store.protocol import ReadLimits

PAGE_BYTES: Final = 16 * 1024 * 1024
"""Most bytes in a page. A page of more is asked for again with fewer lines."""

LIMITS: Final = {
    "max_threads": 1,
    "max_execution_time": 30,
    "max_memory_usage": 200_000_000,
    "max_result_bytes": PAGE_BYTES,
    "result_overflow_mode": "throw",
}
"""Settings of every read: one small query must not take the machine from the others."""

WRITES: Final = {
    # The engine's own deduplication drops a larger batch that begins like an older one; the table's key does it right.
    "insert_deduplicate": 0,
    "async_insert": 0,
    # Rows repeated within one batch collapse at the next merge as well; looking for them here costs a fifth.
    "optimize_on_insert": 0,
    "max_partitions_per_insert_block": 1000,
}
"""Settings of every insert."""


class Query(NamedTuple):
    """A statement with `{name:Type}` placeholders, and their values."""

    sql: str
    parameters: dict[str, object]


def _lines(*parts: str) -> str:
    """A statement of constant parts; values come as parameters."""
    return "\n".join(parts)


# --- writing -------------------------------------------------------------------------------------------------------

CHUNK_COLUMNS: Final = (
    "tenant",
    "app",
    "process",
    "dyno",
    "source",
    "key",
    "retention",
    "epoch",
    "partition",
    "offset",
    "appended",
    "origin",
    "value",
)
"""Columns of table `chunks`, in the order in which `encode_chunks` writes them."""

_PLACE = Struct("<BIHQq")
_WATERMARK = Struct("<IHQ")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _string(data: bytes) -> bytes:
    return _varint(len(data)) + data


@lru_cache(maxsize=1 << 14)
def _names(stream: Stream) -> bytes:
    names = (stream.tenant, stream.app, stream.process, stream.dyno, stream.source)
    return b"".join(map(_string, (*(name.encode() for name in names), stream.key())))


def encode_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Rows of table `chunks` in ClickHouse's RowBinary, in the order of its sorting key.

    Rows that come sorted spare the store the sorting of lines.
    """
    out: list[bytes] = []
    for chunk in sorted(chunks, key=lambda c: (c.stream.tenant, c.stream.app, c.epoch, c.partition, c.offset)):
        place = _PLACE.pack(chunk.stream.retention, chunk.epoch, chunk.partition, chunk.offset, chunk.appended)
        out += (_names(chunk.stream), place, _string(chunk.origin), _varint(len(chunk.value)), chunk.value)
    return b"".join(out)


def encode_watermarks(epoch: int, watermarks: Iterable[tuple[int, int]]) -> bytes:
    """Rows of table `watermarks` (epoch, partition, offset) in RowBinary."""
    return b"".join(_WATERMARK.pack(epoch, partition, offset) for partition, offset in watermarks)


_DAY = re.compile(r"\d{8}-\d{1,3}", re.ASCII)


def days_query() -> Query:
    """Columns name (`<yyyymmdd>-<retention class>`) and start (Unix s) of each partition of `lines`."""
    sql = _lines(
        "SELECT DISTINCT partition_id, toUnixTimestamp(toDateTime(toDate(left(partition_id, 8)), 'UTC'))",
        "FROM system.parts WHERE database = currentDatabase() AND table = 'lines' AND active",
        "AND match(partition_id, '^[0-9]{8}-[0-9]+$')",
    )
    return Query(sql, {})


def drop_day(name: bytes) -> str:
    """Drop a partition by its name, which `days_query` gave."""
    day = name.decode()
    if not _DAY.fullmatch(day):
        raise ValueError("not the name of a partition")
    return f"ALTER TABLE lines DROP PARTITION ID '{day}'"


def forget_apps(before: int) -> str:
    """Forget processes of apps without a line since `before` (Unix s)."""
    return _lines("DELETE FROM apps WHERE last <", str(before * 1000))


_PURGED: Final = "(epoch, offset) < ({epoch:UInt32}, {offset:UInt64})"


def purged_query(purge: Purge) -> Query:
    """A row where there is a line that a purge covers."""
    sql = _lines("SELECT 1", _LINES, "AND", _PURGED, "LIMIT 1")
    return Query(sql, {**purge.app._asdict(), "epoch": purge.before.epoch, "offset": purge.before.offset})


def purged_apps_query(purge: Purge) -> Query:
    """A row where there is a process of the app that has no line behind a purge, as far as that is known."""
    sql = _lines("SELECT 1", _APPS, "AND app = {app:String} AND last <= {at:Int64} LIMIT 1")
    return Query(sql, {**purge.app._asdict(), "at": purge.at})


def purge_lines(purge: Purge) -> str:
    """Write the parts that hold lines of a purge without them; returns when every server has."""
    return _lines(
        "ALTER TABLE lines DELETE WHERE",
        _of(purge.app),
        f"AND (epoch, offset) < ({purge.before.epoch:d}, {purge.before.offset:d})",
        "SETTINGS mutations_sync = 2",
    )


def purge_apps(purge: Purge) -> str:
    """Forget the app's processes that have no line behind a purge."""
    return _lines(
        "ALTER TABLE apps DELETE WHERE", _of(purge.app), f"AND last <= {purge.at:d}", "SETTINGS mutations_sync = 2"
    )


def _of(app: AppId) -> str:
    return f"tenant = {_text(app.tenant)} AND app = {_text(app.app)}"


def _text(text: str) -> str:
    """A literal: statements that change something take no parameters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- reading -------------------------------------------------------------------------------------------------------

SMALL_PAGE: Final = 500
"""Up to so many rows come as columns and are written as lines here: building text costs a statement 1 ms to plan.
More rows are written by ClickHouse, which takes no time from the event loop."""

_PLACE_COLUMNS: Final = "offset, line, appended, key, partial"
_PLAIN_ROW: Final = f"{_PLACE_COLUMNS}, time, toString(stream) AS name, message"
_TEXT_ROW: Final = f"""{_PLACE_COLUMNS},
    concat(
        replaceOne(toString(fromUnixTimestamp64Nano(time, 'UTC')), ' ', 'T'), 'Z ', toString(stream),
        if(partial, ' P ', ' F '), message, '\\n'
    ) AS text"""


def _row(rows: int) -> str:
    return _PLAIN_ROW if rows <= SMALL_PAGE else _TEXT_ROW


_LINES: Final = "FROM lines WHERE tenant = {tenant:String} AND app = {app:String}"
_LINES_ONCE: Final = "FROM lines FINAL WHERE tenant = {tenant:String} AND app = {app:String}"
_APPS: Final = "FROM apps WHERE tenant = {tenant:String}"
_ORIGINS: Final = "FROM origins WHERE node = {node:String} AND file IN {files:Array(String)}"

_VIEWS: Final = {
    _LINES: "FROM logs_of(tenant = {tenant:String}, app = {app:String}) WHERE 1",
    _LINES_ONCE: "FROM logs_once_of(tenant = {tenant:String}, app = {app:String}) WHERE 1",
    _APPS: "FROM apps_of(tenant = {tenant:String}) WHERE 1",
    _ORIGINS: "FROM origins_of(node = {node:String}, files = {files:Array(String)}) WHERE 1",
}
"""What the tables are read through on a server (see migrations/0002_views.sql)."""


def through_views(query: Query) -> Query:
    """The same read through views. The embedded engine has no users to keep apart, and a view costs it 3 ms a read."""
    text = query.sql
    for table, view in _VIEWS.items():
        text = text.replace(table, view)
    return query._replace(sql=text)


_IN_FRONT: Final = """epoch <= {epoch:UInt32} AND (epoch < {epoch:UInt32}
    OR offset < {offset:UInt64} OR (offset = {offset:UInt64} AND line < {line:Int64}))"""


def after_query(app: AppId, after: Cursor, below: int, wanted: Filter, rows: int) -> Query:
    """The first rows behind `after` in its partition, below offset `below`, oldest first.

    Not FINAL, which reads all of the app to return a few rows: a row that was inserted twice comes twice, side by
    side (see `decode_rows`).
    """
    condition, values = filter_condition(wanted)
    sql = _lines(
        "SELECT",
        _row(rows),
        _LINES,
        "AND epoch = {epoch:UInt32} AND partition = {partition:UInt16}",
        "AND offset >= {offset:UInt64} AND offset < {below:UInt64}",
        "AND (offset > {offset:UInt64} OR line > {line:Int64})" if after.line >= 0 else "",
        "AND",
        condition,
        "ORDER BY offset, line LIMIT {rows:UInt64}",
    )
    return Query(sql, {**app._asdict(), **after._asdict(), "below": below, "rows": rows, **values})


def before_query(app: AppId, before: Cursor, wanted: Filter, rows: int, floor: int) -> Query:
    """The last rows in front of `before` in its partition, from offset `floor` on, newest first.

    What `after_query` says holds here too.
    """
    condition, values = filter_condition(wanted)
    sql = _lines(
        "SELECT",
        _row(rows),
        _LINES,
        "AND epoch = {epoch:UInt32} AND partition = {partition:UInt16}",
        "AND offset >= {floor:UInt64}" if floor else "",
        "AND offset <= {offset:UInt64} AND (offset < {offset:UInt64} OR line < {line:Int64})"
        if before.line > 0
        else "AND offset < {offset:UInt64}",
        "AND",
        condition,
        "ORDER BY offset DESC, line DESC LIMIT {rows:UInt64}",
    )
    return Query(sql, {**app._asdict(), **before._asdict(), "floor": floor, "rows": rows, **values})


_BETWEEN: Final = """AND epoch = {epoch:UInt32} AND partition = {partition:UInt16}
    AND offset >= {offset:UInt64} AND offset < {below:UInt64} AND (offset > {offset:UInt64} OR line > {line:Int64})"""


def count_query(app: AppId, after: Cursor, below: int, wanted: Filter) -> Query:
    """One number: the rows behind `after` in its partition, below offset `below`, each once."""
    condition, values = filter_condition(wanted)
    sql = _lines(
        "SELECT count()",
        _LINES_ONCE,
        _BETWEEN,
        "AND",
        condition,
        "SETTINGS do_not_merge_across_partitions_select_final = 1",  # as in `volume_query`
    )
    return Query(sql, {**app._asdict(), **after._asdict(), "below": below, **values})


def first_query(app: AppId, epoch: int) -> Query:
    """Columns partition, offset, line of the oldest row."""
    sql = _lines(
        "SELECT partition, offset, line",
        _LINES,
        "AND epoch = {epoch:UInt32} ORDER BY partition, offset, line LIMIT 1",
    )
    return Query(sql, {**app._asdict(), "epoch": epoch})


_COUNTED_BY: Final = {"process": "process", "dyno": "dyno", "source": "source", "stream": "toString(stream)"}


def volume_query(app: AppId, below: Cursor, wanted: Filter, step: int, by: Sequence[str]) -> Query:
    """Columns start, what `by` names, lines. Rows that were inserted twice count once."""
    condition, values = filter_condition(wanted)
    keys = ", ".join(["start", *(_COUNTED_BY[name] for name in by)])
    sql = _lines(
        "SELECT time - positiveModulo(time, {step:Int64}) AS",
        keys,
        ", count()",
        _LINES_ONCE,
        "AND",
        _IN_FRONT,
        "AND",
        condition,
        "GROUP BY",
        keys,
        "ORDER BY",
        keys,
        "SETTINGS do_not_merge_across_partitions_select_final = 1",  # a key's rows are all of one day
    )
    return Query(sql, {**app._asdict(), **below._asdict(), "step": step, **values})


def limited(query: Query, limits: ReadLimits) -> Query:
    """The same read within limits.

    Not of rows: for those the engine counts what the index selects, so the last 100 lines of a large app would be
    refused, of which it reads a few blocks. They are counted when they have been read.
    """
    given = {"max_execution_time": limits.seconds, "max_bytes_to_read": limits.bytes}
    settings = ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in given.items()
        if value is not None
    )
    if not settings:
        return query
    return query._replace(sql=f"{query.sql}{',' if 'SETTINGS ' in query.sql else ' SETTINGS'} {settings}")


def apps_query(tenant: str) -> Query:
    """Columns app, process, last."""
    sql = _lines("SELECT app, process, max(last)", _APPS, "GROUP BY app, process ORDER BY app, process")
    return Query(sql, {"tenant": tenant})


def exists_query(app: AppId) -> Query:
    return Query(_lines("SELECT 1", _APPS, "AND app = {app:String} LIMIT 1"), {**app._asdict()})


def origins_query(node: str, files: Sequence[str]) -> Query:
    """Columns file, origin; the file that something came of last is last. No files means all of the node."""
    sql = _lines(
        "SELECT file, argMaxMerge(newest)",
        _ORIGINS if files else "FROM origins WHERE node = {node:String}",
        "GROUP BY file ORDER BY max(appended), max(place)",
    )
    return Query(sql, {"node": node, "files": list(files)} if files else {"node": node})


def epochs_query(before: int) -> Query:
    """Column epoch: those that writers recorded, older than `before`, newest first."""
    sql = "SELECT DISTINCT epoch FROM watermarks WHERE epoch < {epoch:UInt32} ORDER BY epoch DESC"
    return Query(sql, {"epoch": before})


def watermarks_query(epoch: int) -> Query:
    """Columns partition, offset."""
    sql = "SELECT partition, max(offset) FROM watermarks WHERE epoch = {epoch:UInt32} GROUP BY partition"
    return Query(sql, {"epoch": epoch})


def filter_condition(wanted: Filter) -> tuple[str, dict[str, object]]:
    """A filter as a condition on `lines`, and its parameters.

    Text is matched as the live tier does it, with RE2 on the message's bytes; without case a literal is a pattern as
    well, so that both fold alike.
    """
    values: dict[str, object] = {}
    terms: list[str] = []
    for column in ("process", "dyno", "source"):
        for name, operator in ((column, "IN"), (f"not_{column}", "NOT IN")):
            if chosen := getattr(wanted, name):
                values[name] = sorted(chosen)
                terms.append(f"{column} {operator} {{{name}:Array(String)}}")
    if wanted.ps:
        values["ps"] = sorted(wanted.ps)
        terms.append("(process IN {ps:Array(String)} OR dyno IN {ps:Array(String)})")
    if wanted.stream:
        values["stream"] = sorted(wanted.stream)
        terms.append("has({stream:Array(String)}, toString(stream))")
    if wanted.not_stream:
        values["not_stream"] = sorted(wanted.not_stream)
        terms.append("NOT has({not_stream:Array(String)}, toString(stream))")
    terms += _texts("grep", wanted.grep, values, literal=True, fold=wanted.ignore_case)
    terms += _texts("grep_re", wanted.grep_re, values, literal=False, fold=wanted.ignore_case)
    bars = _texts("exclude", wanted.exclude, values, literal=True, fold=wanted.ignore_case)
    bars += _texts("exclude_re", wanted.exclude_re, values, literal=False, fold=wanted.ignore_case)
    terms += [f"NOT {bar}" for bar in bars]
    if terms:
        terms = [f"((source = 'platform' AND process = 'logsvc') OR ({' AND '.join(terms)}))"]
    if wanted.since is not None:
        values["since"] = _int64(wanted.since)
        terms.append("time >= {since:Int64}")
    if wanted.until is not None:
        values["until"] = _int64(wanted.until)
        terms.append("time < {until:Int64}")
    return " AND ".join(terms) or "1", values


def _int64(number: int) -> int:
    return max(-(1 << 63), min(number, (1 << 63) - 1))


def _texts(name: str, texts: Sequence[str], values: dict[str, object], *, literal: bool, fold: bool) -> list[str]:
    terms = []
    for number, text in enumerate(texts):
        key = f"{name}_{number}"
        if literal and not fold:
            values[key] = text
            terms.append(f"position(message, {{{key}:String}}) > 0")
        else:
            pattern = re2.escape(text) if literal else text
            values[key] = f"(?i){pattern}" if fold else pattern
            terms.append(f"match(message, {{{key}:String}})")
    return terms


def once(columns: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """The columns of a page without the repetitions of rows that were inserted twice: they stand side by side."""
    if not columns:
        return columns
    places = list(zip(columns[0], columns[1], strict=True))
    if len(set(places)) == len(places):
        return columns
    firsts = [at for at, place in enumerate(places) if at == 0 or places[at - 1] != place]
    return [[column[at] for at in firsts] for column in columns]


def decode_rows(epoch: int, partition: int, columns: Sequence[Sequence[Any]]) -> list[Chunk]:
    """The columns of a page, oldest first and each row once, as chunks with the lines that came of each."""
    if not columns:
        return []
    offsets, lines, appended, keys, partial, *rest = columns
    text = rest[0] if len(rest) == 1 else list(map(_line, *rest, partial))
    starts = [0, *(at for at, (a, b) in enumerate(pairwise(offsets), 1) if a != b), len(offsets)]
    return [
        Chunk(
            epoch=epoch,
            partition=partition,
            offset=offsets[at],
            appended=appended[at],
            stream=Stream.of(keys[at]),
            value=b"".join(text[at:end]),
            partial=any(partial[at:end]),
            indices=list(lines[at:end]),
        )
        for at, end in pairwise(starts)
        if end > at
    ]


def _line(time: int, stream: bytes, message: bytes, partial: bool) -> bytes:
    return cri.format_line(cri.format_time(time), stream, message, partial=partial)
