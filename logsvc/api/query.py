"""What a request for lines asks for, read from its URL. Pure: text in, a Query out, or a Problem."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

from multidict import MultiMapping

from logsvc.access.grant import NAME
from logsvc.api.problems import bad_parameter
from logsvc.errors import BadCursor, BadFilter
from logsvc.model import Cursor, Filter
from logsvc.selection import Matcher
from logsvc.store.protocol import VOLUME_BY

DEFAULT_NUM = 100

_COUNTABLE = frozenset({"process", "dyno", "source", "stream"})
_MANY = _COUNTABLE | {f"not_{name}" for name in _COUNTABLE} | {"grep", "grep_re", "exclude", "exclude_re"}
_ONE = frozenset({"tail", "num", "since", "until", "after", "before", "cursor", "ignore_case"})
FILTER_PARAMETERS = _MANY | {"since", "until", "ignore_case"}
_STREAMS = frozenset({"stdout", "stderr"})
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,7}[smhdw]){1,5}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 2**63 - 1
"""Unix ns that a line's time can have at most: in the year 2262."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Query:
    """One request for the lines of an app."""

    matcher: Matcher
    tail: bool
    num: int | None
    after: Cursor | None
    before: Cursor | None
    cursors: bool
    """Whether each line is to carry its cursor."""
    resumed: bool = False
    """Whether `after` is the header Last-Event-ID."""


def read_query(query: MultiMapping[str], *, last_event_id: str | None, now: int) -> Query:
    """The query of `GET …/logs`; `now` in Unix ns is what `15m` counts back from. Raises Problem.

    `Last-Event-ID` replaces `num`, `since` and `after`: a browser reconnects to the URL it was given first.
    """
    check_names(query, _MANY | _ONE)
    tail = read_flag(query, "tail")
    num, after, before = _number(query, "num"), _cursor(query, "after"), _cursor(query, "before")
    wanted = read_filter(query, now=now)
    if tail and (before is not None or wanted.until is not None):
        raise bad_parameter("until" if before is None else "before", "a tail has no end")
    if last_event_id is not None:
        num, after, wanted = None, read_cursor("Last-Event-ID", last_event_id), replace(wanted, since=None)
    elif num is None and not {"since", "until", "after", "before"} & set(query):
        num = DEFAULT_NUM
    cursors = read_flag(query, "cursor")
    return Query(read_matcher(wanted), tail, num, after, before, cursors, resumed=last_event_id is not None)


def described(wanted: Filter) -> dict[str, object]:
    """What a filter asks for, by the names of the parameters."""
    given = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in given.items()
        if value not in (None, False, (), frozenset())
    }


def read_matcher(wanted: Filter) -> Matcher:
    """The filter made ready. Raises Problem where a pattern can't be used."""
    try:
        return Matcher(wanted)
    except BadFilter as error:
        raise bad_parameter(error.parameter, str(error)) from error


def read_filter(query: MultiMapping[str], *, now: int) -> Filter:
    """The filter of a query. Raises Problem."""
    for name in ("grep", "grep_re", "exclude", "exclude_re"):
        if "" in query.getall(name, []):
            raise bad_parameter(name, "is empty")
    since, until = _time(query, "since", now), _time(query, "until", now)
    if since is not None and until is not None and until < since:
        raise bad_parameter("until", "is before `since`")
    return Filter(
        process=_names(query, "process"),
        dyno=_names(query, "dyno"),
        source=_names(query, "source"),
        stream=_streams(query, "stream"),
        not_process=_names(query, "not_process"),
        not_dyno=_names(query, "not_dyno"),
        not_source=_names(query, "not_source"),
        not_stream=_streams(query, "not_stream"),
        grep=tuple(query.getall("grep", [])),
        grep_re=tuple(query.getall("grep_re", [])),
        exclude=tuple(query.getall("exclude", [])),
        exclude_re=tuple(query.getall("exclude_re", [])),
        ignore_case=read_flag(query, "ignore_case"),
        since=since,
        until=until,
    )


def read_step(query: MultiMapping[str]) -> int:
    """`step` of a volume in ns: `15s`, `1m`, `1h`, …; a minute where it isn't given."""
    text = query.get("step", "1m")
    if not _DURATION.fullmatch(text) or not 0 < (step := _duration(text)) <= _LATEST:
        raise bad_parameter("step", "is a length of time such as 15s, 1m or 1h")
    return step


def read_by(query: MultiMapping[str]) -> tuple[str, ...]:
    """What lines of a volume are counted by: each name once, process and stream where none is given."""
    by = tuple(dict.fromkeys(query.getall("by", VOLUME_BY)))
    if not set(by) <= _COUNTABLE:
        raise bad_parameter("by", "is process, dyno, source or stream")
    return by


def read_name(parameter: str, name: str) -> str:
    """The name of an app, process or dyno. Raises Problem."""
    if not NAME.fullmatch(name):
        raise bad_parameter(
            parameter, "has letters, digits, `.`, `_` and `-`, at most 128, and begins with a letter or digit"
        )
    return name


def read_flag(query: MultiMapping[str], parameter: str) -> bool:
    text = query.get(parameter, "false").lower()
    if text in {"1", "true", "yes", ""}:
        return True
    if text in {"0", "false", "no"}:
        return False
    raise bad_parameter(parameter, "is true or false")


def check_names(query: MultiMapping[str], known: Collection[str], many: Collection[str] = _MANY | {"by"}) -> None:
    """Refuse names that mean nothing here, for a typo would widen what is read, and repeated ones not of `many`."""
    for name in query:
        if name not in known:
            raise bad_parameter(name, "there is no such parameter")
        if name not in many and len(query.getall(name)) > 1:
            raise bad_parameter(name, "is given more than once")


def _names(query: MultiMapping[str], parameter: str) -> frozenset[str]:
    return frozenset(read_name(parameter, name) for name in query.getall(parameter, []))


def _streams(query: MultiMapping[str], parameter: str) -> frozenset[str]:
    streams = frozenset(query.getall(parameter, []))
    if not streams <= _STREAMS:
        raise bad_parameter(parameter, "is stdout or stderr")
    return streams


def _number(query: MultiMapping[str], parameter: str) -> int | None:
    text = query.get(parameter)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise bad_parameter(parameter, "is a whole number from 0 to 999999999")
    return int(text)


def _cursor(query: MultiMapping[str], parameter: str) -> Cursor | None:
    text = query.get(parameter)
    return None if text is None else read_cursor(parameter, text)


def read_cursor(parameter: str, text: str) -> Cursor:
    """Raises Problem."""
    try:
        return Cursor.parse(text)
    except BadCursor as error:
        raise bad_parameter(parameter, str(error)) from error


def _time(query: MultiMapping[str], parameter: str, now: int) -> int | None:
    """Unix ns of an RFC 3339 time, or of a length of time before `now`."""
    text = query.get(parameter)
    if text is None:
        return None
    if _DURATION.fullmatch(text):
        return max(0, now - _duration(text))
    match = _TIME.fullmatch(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text.upper() else text)
    if match is not None:
        date, clock, fraction, offset = match.groups()
        try:
            at = datetime.fromisoformat(f"{date}T{clock}{offset.upper().replace('Z', '+00:00')}")
            seconds = round((at - _EPOCH).total_seconds())
        except (ValueError, OverflowError):
            seconds = -1
        if seconds >= 0:
            return min(seconds * 10**9 + int((fraction or "").ljust(9, "0")), _LATEST)
    raise bad_parameter(parameter, "is an RFC 3339 time such as 2026-11-23T02:00:00Z, or a length of time such as 15m")


def _duration(text: str) -> int:
    return sum(int(part[:-1]) * _SECONDS[part[-1]] for part in re.findall(r"\d+[smhdw]", text)) * 10**9
