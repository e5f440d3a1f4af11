"""The service's own log: one line a record on stderr, for people or as JSON.

It tells what the service does and what went wrong with it, never what is in the lines it carries.
"""

import logging
import sys
from datetime import UTC, datetime
from traceback import format_tb
from typing import Final, Literal, TextIO

import orjson

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_CAUSES: Final = 5
"""Errors of a chain that are told of."""
_MINUTE: Final = 60.0


def set_up(level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None) -> None:
    """Write what `logsvc` logs at `level` and worse to `stream` (stderr), and of libraries warnings and worse."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else TextLine())
    handler.addFilter(Repeated())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("logsvc").setLevel(LEVELS[level])
    logging.captureWarnings(capture=True)


class Repeated(logging.Filter):
    """Lets each message of aiokafka pass once a minute: it says ten times a second that a broker is away.

    Requests that it gives up while we have stopped waiting for them are told by asyncio, with a traceback of no use.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if record.name == "asyncio" and type(error).__module__.startswith("aiokafka"):
            record.name, record.msg, record.args = "aiokafka", f"a request was given up: {error!r}", None
            record.exc_info = None
        if not record.name.startswith("aiokafka"):
            return True
        message = record.name, str(record.msg)  # without its arguments, so there are few
        if record.created < self._passed.get(message, 0) + _MINUTE:
            return False
        self._passed[message] = record.created
        return True


def placed(error: BaseException) -> str:
    """Where an error was raised, and what led to it, by kind. Not their texts, which may quote a line or an address."""
    made: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(made) < _CAUSES:
        frames = "".join(format_tb(cause.__traceback__)).rstrip()
        made.append(f"{type(cause).__qualname__}\n{frames}")
        cause = cause.__cause__ or cause.__context__
    return "\ndue to ".join(made)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextLine(logging.Formatter):
    """`<time> <level> <logger>: <message>`, and a traceback below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text.replace("\n", "\n    ")


class JsonLine(logging.Formatter):
    """An object with `time`, `level`, `logger`, `message`, what the record has as `fields`, and `traceback` where
    there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()
