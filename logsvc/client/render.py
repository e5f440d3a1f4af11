"""What `paas logs` prints: the data of events to bytes for stdout. No I/O.

Text is Heroku's line, `2026-11-23T02:00:00.123456+00:00 app[web.1]: message`. In a pipe the message is what the
process wrote; for a terminal it is made safe and coloured. `--json` passes the service's JSON lines on as they came.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol

import orjson

from logsvc.client.colours import Palette
from logsvc.errors import ClientError
from logsvc.formats.terminal import plain, sanitized, without_sgr

_CACHED: Final = 8192
"""Entries after which a cache starts anew, so that it stays small whatever an app is called."""


class Render(Protocol):
    """Turns the data of one event into what is printed. Raises ClientError where it is not what it should be."""

    def lines(self, data: list[bytes]) -> bytes:
        """JSON lines to as many printed ones."""

    def notice(self, data: list[bytes]) -> bytes:
        """Notices, `{"notice":"…","cursor":"…"}`, to as many printed lines."""


class JsonLines:
    """The lines as they came; on a terminal with those control characters escaped that JSON allows raw."""

    def __init__(self, *, terminal: bool = False) -> None:
        self._terminal = terminal

    def lines(self, data: list[bytes]) -> bytes:
        text = b"\n".join([*data, b""])
        return _escaped(text) if self._terminal else text

    notice = lines


class PlainText:
    """Heroku's lines with the messages as they are."""

    def __init__(self, zone: tzinfo | None = UTC) -> None:
        self._stamp = stamper(zone)

    def lines(self, data: list[bytes]) -> bytes:
        stamp = self._stamp
        try:
            return "".join(
                [f"{stamp(o['time'])} {o['source']}[{o['dyno']}]: {o['message']}\n" for o in _objects(data)]
            ).encode()
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable() from error

    def notice(self, data: list[bytes]) -> bytes:
        stamp = self._stamp
        return "".join([f"{stamp(time)} platform[logsvc]: {text}\n" for time, text in _notices(data)]).encode()


class TerminalText:
    """Heroku's lines for a terminal: safe, and in colours where `colour`; without it colours of messages go too."""

    def __init__(self, zone: tzinfo | None = UTC, *, colour: bool = True) -> None:
        self._stamp = stamper(zone)
        self._colour = colour
        self._palette = Palette()
        self._names: dict[tuple[str, str, str], tuple[str, str, str]] = {}

    def lines(self, data: list[bytes]) -> bytes:
        try:
            return "".join(map(self._line, _objects(data))).encode()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _unreadable() from error

    def notice(self, data: list[bytes]) -> bytes:
        names = {"source": "platform", "process": "logsvc", "dyno": "logsvc"}
        return "".join([self._line({"time": time, "message": text, **names}) for time, text in _notices(data)]).encode()

    def _line(self, line: dict[str, str]) -> str:
        source, process, dyno = line["source"], line["process"], line["dyno"]
        key = (source, process, dyno)
        on, name, off = self._names.get(key) or self._named(key)
        message = sanitized(line["message"])
        if not self._colour:
            message = without_sgr(message)
        elif message:
            message = self._palette.body(source, process, message)
        return f"{on}{sanitized(self._stamp(line['time']))} {name}{off} {message}\n"

    def _named(self, key: tuple[str, str, str]) -> tuple[str, str, str]:
        source, process, dyno = key
        style = self._palette.style(dyno if "." in dyno else process or dyno) if self._colour else ("", "")
        if len(self._names) >= _CACHED:
            self._names.clear()
        named = self._names[key] = (style[0], plain(f"{source}[{dyno}]:"), style[1])
        return named


def stamper(zone: tzinfo | None) -> Callable[[str], str]:
    """What turns the time of a JSON line into that of a text line: microseconds, in `zone` (None: the machine's).

    What is no time is passed on as it is.
    """
    if zone is UTC:
        return _utc
    seconds: dict[str, tuple[str, str]] = {}

    def stamp(time: str) -> str:
        if len(time) != 30 or time[29] != "Z":
            time = _normal(time)
        known = seconds.get(time[:19])
        if known is None:
            try:
                moment = datetime.fromisoformat(f"{time[:19]}+00:00").astimezone(zone).isoformat()
            except (ValueError, OverflowError):
                return time
            if len(seconds) >= _CACHED:
                seconds.clear()
            known = seconds[time[:19]] = (moment[:19], moment[19:])
        return f"{known[0]}{time[19:26]}{known[1]}"

    return stamp


def _utc(time: str) -> str:
    if len(time) == 30 and time[29] == "Z":
        return f"{time[:26]}+00:00"
    normal = _normal(time)
    return f"{normal[:26]}+00:00" if normal.endswith("Z") else normal


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _normal(time: str) -> str:
    """Any RFC 3339 time in UTC with nine digits; what isn't one stays."""
    match = _TIME.fullmatch(time)
    if match is None:
        return time
    try:
        moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        return time
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{match[2] or '0':0<9}Z"


def _objects(data: list[bytes]) -> list[dict[str, str]]:
    """JSON lines as one array: one call for all of them."""
    objects: list[dict[str, str]] = orjson.loads(b"[%b]" % b",".join(data))
    if len(objects) != len(data):
        raise ValueError("not one JSON object a line")
    return objects


def _notices(data: list[bytes]) -> list[tuple[str, str]]:
    """Time and text of each; a notice without a time is of now."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"
    try:
        return [(str(told.get("time") or now), str(told["notice"])) for told in _objects(data)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable() from error


_RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _escaped(data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return _RAW.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def _unreadable() -> ClientError:
    return ClientError("the service sent something that is not a log line; is it of another version?")
