r"""The CRI log format: `<RFC 3339 time> <stdout|stderr> <tags> <message>\n`. Bytes in, bytes out, no I/O.

Source of the format: `kubernetes/design-proposals-archive`, node/kubelet-cri-logging.md. Tags are separated by colons,
the first one is `F` (the line is full) or `P` (it goes on in the next line of the same stream). Runtimes cut lines
into parts of 16 KiB. containerd trims the zeros at the end of a time, CRI-O writes the node's offset instead of `Z`.

`F:platform` is ours: the Procfile runner writes what it has to say of a process into the process's own file, so that
it stands at its place between the process's lines. No kubelet writes it.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from logsvc.model import MAX_LINE

PLATFORM: Final = b":platform"
"""Tag, after `F` or `P`, of a line that the platform wrote about the process."""

# Live, a time is shown as it is written, in history as it was understood: what can't be understood must not pass.
# Digits are spelled out because the engine of `re` is a quarter slower on \d{4}. Repeated characters are possessive, so
# that there are no states to go back to; repeated groups are not, because CPython before 3.11.5, which Debian 12 has,
# then accepts what doesn't match (gh-106052). What is common stands first in each alternative.
_REST: Final = (
    rb":[0-5][0-9]:[0-5][0-9]"
    rb"(?:\.[0-9]{1,9}+Z|Z|(?:\.[0-9]{1,9}+)?[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""Of a time, behind the hour."""

_LINE: Final = re.compile(
    rb"([0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]%b) (stdout|stderr) ([FP])((?::[^ \n]*+)?)(?: ([^\n]*+))?"
    % _REST
)

_HOUR: Final = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")


@lru_cache(maxsize=1024)
def _runs(hour: bytes, longest: int = MAX_LINE - 64) -> re.Pattern[bytes] | None:
    """What a run of lines of that hour (`2026-11-23T02`) is; None where no calendar has it.

    History counts the years from 1900 to 2262, whatever the offset. That the hour is spelled out makes the pattern
    faster, and it is looked at once for all of its lines.
    """
    if _HOUR.fullmatch(hour) is None:
        return None
    try:
        begin = datetime.fromisoformat(hour.decode())
    except ValueError:
        return None
    if not 1900 < begin.year < 2262:
        return None
    return re.compile(rb"(?:%b%b std(?:out F|err F) [^\n]{0,%d}+\n)+" % (re.escape(hour), _REST, longest))


class Part(NamedTuple):
    """One line of a container's file, as it stands there."""

    time: bytes
    stream: bytes
    """`stdout` or `stderr`."""
    partial: bool
    """Tag `P`: goes on in the next line of the stream."""
    platform: bool
    message: bytes


def clean(data: bytes, start: int = 0) -> int:
    """Where the run of whole, well-formed `F` lines that begins at `start` ends; `start` where there is none.

    One pass in C; what it accepts can go to the bus as it is: no message in it is longer than MAX_LINE.
    """
    end = start
    while (runs := _runs(data[end : end + 13])) is not None and (match := runs.match(data, end)) is not None:
        end = match.end()
    return end


def read_part(line: bytes) -> Part | None:
    """A line without its newline, or None where it isn't CRI, or its time is one that no calendar has."""
    match = _LINE.fullmatch(line)
    if match is None or _runs(line[:13]) is None:
        return None
    time, stream, tag, more, message = match.groups(b"")
    return Part(time, stream, tag == b"P", more == PLATFORM, message)


def format_line(time: bytes, stream: bytes, message: bytes, *, partial: bool = False) -> bytes:
    """One line as it stands in a chunk, newline included."""
    return b"%b %b %b %b\n" % (time, stream, b"P" if partial else b"F", message)


def format_time(ns: int) -> bytes:
    """Unix nanoseconds as 30 characters, `2026-11-23T02:00:00.123456789Z`."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode() + b".%09dZ" % fraction


def lines(value: bytes) -> list[bytes]:
    r"""The lines of a chunk's value, without their newlines. Not `splitlines`: a `\r` is part of the message."""
    return value[:-1].split(b"\n")


def parse(line: bytes) -> tuple[bytes, bytes, bool, bytes]:
    """Time (30 characters, UTC), stream, partial and message of a line of a chunk.

    Only for lines of the bus, which are known to be well formed.
    """
    time, stream, tag, message = line.split(b" ", 3)
    return (time if len(time) == 30 and time[29] == 90 else utc(time)), stream, tag == b"P", message


def utc(time: bytes) -> bytes:
    """An RFC 3339 time (0 to 9 digits of fraction, `Z` or an offset) as 30 characters in UTC."""
    if time[-1:] == b"Z":
        whole, fraction = time[:19], time[20:-1]
    else:
        whole, fraction = _to_utc(time[:19], time[-6:]), time[20:-6]
    return b"%b.%bZ" % (whole, fraction.ljust(9, b"0"))


@lru_cache(maxsize=256)
def _to_utc(whole: bytes, offset: bytes) -> bytes:
    sign = -1 if offset[:1] == b"-" else 1
    minutes = sign * (int(offset[1:3]) * 60 + int(offset[4:6]))
    seconds = _seconds(whole) - minutes * 60
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode()
    except (OverflowError, ValueError, OSError):
        return whole  # year 0 or 10000: no such time in UTC


def time_ns(time: bytes) -> int:
    """Unix nanoseconds of a time of 30 characters.

    Never fails: a day or an hour that no calendar has (month 13) counts on from the ones that it has.
    """
    return _seconds(time[:19]) * 1_000_000_000 + int(time[20:29])


@lru_cache(maxsize=256)
def _seconds(whole: bytes) -> int:
    hours, minutes, seconds = int(whole[11:13]), int(whole[14:16]), int(whole[17:19])
    return _days(whole[:10]) * 86_400 + hours * 3_600 + minutes * 60 + seconds


@lru_cache(maxsize=64)
def _days(date: bytes) -> int:
    """Days since 1970 in the proleptic Gregorian calendar, by Howard Hinnant's `days_from_civil`."""
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
