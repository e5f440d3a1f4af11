"""CRI lines to JSON objects, a chunk at a time.

One object a line: `{"time":"2026-11-23T02:00:00.123456789Z","source":"app","process":"web","dyno":"web.1",
"stream":"stdout","message":"…"}`; with cursors `,"cursor":"1.37.12345.6"`, and `,"partial":true` on a line that goes
on in the next one. Invalid UTF-8 becomes U+FFFD.

The chunk is escaped in one call, its newlines turned into DEL, which JSON leaves alone, so that per line only slices
are left to do.
"""

from functools import lru_cache
from typing import NamedTuple

import orjson

from logsvc.formats import cri
from logsvc.model import Cursor, Selection, Stream

_HEAD = '{"time":"'
_MESSAGE = '","message":"'


def objects(selection: Selection, *, cursors: bool = False) -> list[str]:
    """The JSON object of each line, without a newline."""
    chunk = selection.chunk
    if chunk.stream.is_notice:
        return _notices(selection)
    lines = _escaped(selection.value)
    names = _names(chunk.stream)
    if cursors or chunk.partial:
        return _with_tails(selection, lines, names, cursors=cursors)
    return [
        f'{_HEAD}{line[:29]}{names}{line[31:37]}{_MESSAGE}{line[40:]}"}}' if line[29:31] == "Z " else _odd(line, names)
        for line in lines
    ]


def notice(text: str, cursor: Cursor, before: Cursor | None = None) -> str:
    """The object of a notice: `{"notice":"…","cursor":"…"}`, and `"before":"…"` where an answer is gone on with so."""
    more = {} if before is None else {"before": str(before)}
    return orjson.dumps({"notice": text, "cursor": str(cursor), **more}).decode()


def heartbeat(cursor: Cursor) -> str:
    """The object that moves a reader's cursor on where there is nothing to tell."""
    return orjson.dumps({"heartbeat": True, "cursor": str(cursor)}).decode()


def _escaped(value: bytes) -> list[str]:
    """Each line with what JSON wants escaped, but for quotes around it."""
    if b"\x7f" in value:
        return [orjson.dumps(line.decode("utf-8", "replace"))[1:-1].decode() for line in cri.lines(value)]
    text = orjson.dumps(value[:-1].replace(b"\n", b"\x7f").decode("utf-8", "replace"))
    return text[1:-1].decode().split("\x7f")


@lru_cache(maxsize=4096)
def _names(stream: Stream) -> str:
    named = {"source": stream.source, "process": stream.process, "dyno": stream.dyno}
    return f'Z",{orjson.dumps(named)[1:-1].decode()},"stream":"'


class _Parts(NamedTuple):
    time: str
    stream: str
    partial: bool
    message: str


def _parts(line: str) -> _Parts:
    time, stream, tag, message = line.split(" ", 3)
    return _Parts(cri.utc(time.encode())[:29].decode(), stream, tag == "P", message)


def _odd(line: str, names: str) -> str:
    """A line whose time isn't written with nine digits and Z: containerd trims zeros, CRI-O writes an offset."""
    space = line.index(" ")
    if line[space - 1] == "Z" and space > 21:
        time = line[: space - 1]
        return f'{_HEAD}{time:0<29}{names}{line[space + 1 : space + 7]}{_MESSAGE}{line[space + 10 :]}"}}'
    time, stream, _, message = _parts(line)
    return f'{_HEAD}{time}{names}{stream}{_MESSAGE}{message}"}}'


def _with_tails(selection: Selection, lines: list[str], names: str, *, cursors: bool) -> list[str]:
    prefix = str(selection.chunk.cursor(0))[:-1]
    made = []
    for number, line in zip(selection.numbers, lines, strict=True):
        time, stream, partial, message = _parts(line)
        tail = (',"partial":true' if partial else "") + (f',"cursor":"{prefix}{number}"' if cursors else "")
        made.append(f'{_HEAD}{time}{names}{stream}{_MESSAGE}{message}"{tail}}}')
    return made


def _notices(selection: Selection) -> list[str]:
    lines = cri.lines(selection.value)
    return [
        notice(cri.parse(line)[3].decode("utf-8", "replace"), selection.chunk.cursor(number))
        for number, line in zip(selection.numbers, lines, strict=True)
    ]
