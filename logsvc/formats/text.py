"""CRI lines to Heroku's text lines: `2026-11-23T02:00:00.123456+00:00 app[web.1]: message`.

UTC, microseconds (heroku/logplex writes them so). Blank lines and indentation are kept, and so are bytes that are
not UTF-8. A carriage return would end the line for some readers and overwrite it for others: at the end of a line it
is dropped, within one it is shown as U+240D.
"""

from functools import lru_cache

from logsvc.formats import cri
from logsvc.model import Cursor, Selection, Stream

_RETURN = "\u240d".encode().decode("latin-1")
"""The sign for a carriage return, in the bytes-as-characters form that lines have here."""


def lines(selection: Selection, *, cursors: bool = False) -> list[str]:
    """Each line without a newline, its bytes as Latin-1 characters (encode with `latin-1`)."""
    text = selection.value[:-1].decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r").replace("\r", _RETURN)
    name = _name(selection.chunk.stream)
    made = [f"{line[:26]}{name}{line[40:]}" if line[29:31] == "Z " else _odd(line, name) for line in text.split("\n")]
    if cursors:
        prefix = str(selection.chunk.cursor(0))[:-1]
        return [f"{prefix}{number} {line}" for number, line in zip(selection.numbers, made, strict=True)]
    return made


def notice(text: str, cursor: Cursor, time: str, *, cursors: bool = False) -> str:
    """A line of `platform[logsvc]`; `time` as in a JSON line."""
    line = f"{time[:26]}+00:00 platform[logsvc]: {text.encode().decode('latin-1')}"
    return f"{cursor} {line}" if cursors else line


@lru_cache(maxsize=4096)
def _name(stream: Stream) -> str:
    return f"+00:00 {stream.source}[{stream.dyno}]: ".encode().decode("latin-1")


def _odd(line: str, name: str) -> str:
    time, _, _, message = line.split(" ", 3)
    return f"{cri.utc(time.encode())[:26].decode()}{name}{message}"
