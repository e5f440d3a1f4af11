"""Times as people write them, and times as lines carry them. Pure: now and the zone are passed in.

    time     = stamp | day [clock] | clock | ago | "now"
    stamp    = date [("T" | " ") clock [offset]]         2026-11-23T14:00:00.5+01:00 (RFC 3339), 2026-11-23 14:00
    day      = "today" | "yesterday" | "monday" … "sunday"
    clock    = HH ":" MM [":" SS ["." fraction]]
    offset   = "Z" | ("+" | "-") HH ":" MM
    ago      = (number unit)+ ["ago"]                    15m, 1h30m, 2 days ago

What has no offset is meant in the zone. A day without a clock is its midnight, a clock without a day the latest one
that is not in the future, a weekday the latest one before today. Case does not matter.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from logsvc.errors import BadTime

NS: Final = 1_000_000_000
_LATEST: Final = 2**63 - 1
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS: Final = {
    "ms": NS // 1000,
    **dict.fromkeys(("s", "sec", "second", "seconds"), NS),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60 * NS),
    **dict.fromkeys(("h", "hour", "hours"), 3600 * NS),
    **dict.fromkeys(("d", "day", "days"), 86400 * NS),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400 * NS),
}
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:(?:t| +)(\d[^z+-]*)(z|[+-].*)?)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) *([a-z]+) *", re.ASCII)
_EXAMPLES = "write it like 15m, 14:00, yesterday 14:00 or 2026-11-23T14:00:00Z"


def parse_time(text: str, now: int, zone: tzinfo | None) -> int:
    """Unix ns of a time as people write it; `now` in Unix ns, `zone` None for the machine's own.

    A local time that a change to summer time skips is read with the offset before the change, one that happens
    twice as the first. Raises BadTime, whose message names the part that is wrong.
    """
    said = " ".join(text.lower().split())
    today = local(now, zone)
    if match := _STAMP.fullmatch(said):
        value = _stamp(match, zone)
    elif said[:1].isdigit() and ":" in said:
        value = _latest(said, now, today, zone)
    elif said[:1].isdigit():
        value = now - _duration(said)
    else:
        value = now if said == "now" else _day(said, today, zone)
    if not 0 <= value <= _LATEST:
        raise BadTime("the year is not between 1970 and 2261")
    return value


def rfc3339(ns: int) -> str:
    """`2026-11-23T14:00:00.123456789Z`."""
    seconds, fraction = divmod(ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def local(ns: int, zone: tzinfo | None) -> datetime:
    """The wall clock of a zone at a moment, to the second."""
    return datetime.fromtimestamp(ns // NS, UTC).astimezone(zone)


def _stamp(match: re.Match[str], zone: tzinfo | None) -> int:
    year, month, day, clock, offset = match.groups()
    try:
        on = date(int(year), int(month), int(day))
    except ValueError as error:
        raise BadTime(f"there is no day {year}-{month}-{day}") from error
    if offset is None:
        return _moment(on, clock.strip() if clock else None, zone)
    seconds = _offset(offset)
    return _moment(on, clock.strip(), UTC) - seconds * NS


def _offset(text: str) -> int:
    """Seconds east of UTC."""
    if text == "z":
        return 0
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise BadTime(f"an offset from UTC looks like Z or +01:00, not {text}")
    return int(f"{match[1]}1") * (int(match[2]) * 3600 + int(match[3]) * 60)


def _moment(on: date, clock: str | None, zone: tzinfo | None) -> int:
    hour, minute, second, fraction = _clock(clock) if clock else (0, 0, 0, 0)
    wall = datetime(on.year, on.month, on.day, hour, minute, second)  # noqa: DTZ001 - the next lines give it its zone
    try:
        aware = wall.replace(tzinfo=zone) if zone is not None else wall.astimezone()
        since_epoch = aware.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise BadTime("the year is not between 1970 and 2261") from error
    return (since_epoch.days * 86400 + since_epoch.seconds) * NS + fraction


def _clock(text: str) -> tuple[int, int, int, int]:
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise BadTime(f"a time of day looks like 14:00 or 14:00:05.25, not {text}")
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    for value, most, name in ((hour, 23, "hour"), (minute, 59, "minute"), (second, 59, "second")):
        if value > most:
            raise BadTime(f"the {name} {value} in {text} is above {most}")
    return hour, minute, second, int((match[4] or "").ljust(9, "0"))


def _latest(clock: str, now: int, today: datetime, zone: tzinfo | None) -> int:
    at = _moment(today.date(), clock, zone)
    return at if at <= now else _moment(today.date() - timedelta(days=1), clock, zone)


def _day(said: str, today: datetime, zone: tzinfo | None) -> int:
    name, _, clock = said.partition(" ")
    if name == "today":
        back = 0
    elif name == "yesterday":
        back = 1
    elif name in _DAYS:
        back = (today.weekday() - _DAYS.index(name) - 1) % 7 + 1
    else:
        raise BadTime(f"no time begins with {name!r}; {_EXAMPLES}" if name else f"it is empty; {_EXAMPLES}")
    return _moment(today.date() - timedelta(days=back), clock or None, zone)


def _duration(said: str) -> int:
    said = said.removesuffix("ago").rstrip()
    total, at = 0, 0
    while at < len(said):
        match = _PART.match(said, at)
        if match is None:
            raise BadTime(f"{said[at:]!r} is neither a duration nor a time; {_EXAMPLES}")
        unit = _UNITS.get(match[2])
        if unit is None:
            raise BadTime(f"there is no unit {match[2]!r}; units are ms, s, m, h, d and w")
        whole, _, fraction = match[1].partition(".")
        total += int(whole) * unit + int(fraction.ljust(9, "0")) * unit // NS
        at = match.end()
    return total
