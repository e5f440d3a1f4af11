"""The representations of a timeline that clients ask for, as bytes: SSE, NDJSON, text, WebSocket messages.

A representation frames selections, notices and heartbeats. It has no state, so what it makes of a chunk is shared by
everyone who watches the chunk in the same representation.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from logsvc.formats import jsonlines, text
from logsvc.model import Cursor, Selection

PART_BYTES: Final = 64 * 1024
"""About the most bytes of a chunk in one event or message. What is cut inside of one has to be sent again, so a wire
that breaks often gets on only by whole ones."""
_SOON: Final = b"retry: 200\n\n"
"""Come back in so many milliseconds: where one server stops, others listen already."""


class Representation(Protocol):
    """How a timeline is written to a client. `cursors` adds each line's cursor to it."""

    name: str
    content_type: str
    cursors: bool

    def lines(self, selections: Sequence[Selection]) -> bytes:
        """The lines of the selections, in their order."""

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:
        """Something that a reader has to know at this place; `time` as in a JSON line.

        `before`: where to go on, where the answer has ended before it was complete.
        """

    def heartbeat(self, cursor: Cursor) -> bytes:
        """A sign of life that moves the reader's cursor on; empty where the form has none."""

    def end(self) -> bytes:
        """Closes an answer that is complete, so that it can be told from one that was cut."""

    def farewell(self) -> bytes:
        """Closes an answer that isn't, where the service stops: come back, and soon."""


_NEXT_DATA: Final = "\ndata: "


class ServerSentEvents:
    """One event a chunk or part of one, `id` the cursor of its last line (WHATWG HTML, server-sent events).

    A cut event is never dispatched, so going on behind the last `id` is exact. A heartbeat is an `id` without data:
    it sets the last event id and dispatches nothing.
    """

    name = "sse"
    content_type = "text/event-stream"

    def __init__(self, *, cursors: bool = False) -> None:
        self.cursors = cursors

    def lines(self, selections: Sequence[Selection]) -> bytes:
        return "".join(map(self._event, selections)).encode()

    def _event(self, selection: Selection) -> str:
        made = jsonlines.objects(selection, cursors=self.cursors)
        if selection.chunk.stream.is_notice:
            return self._notices(selection, made)
        return "".join(f"id: {cursor}\ndata: {_NEXT_DATA.join(lines)}\n\n" for cursor, lines in _parts(selection, made))

    @staticmethod
    def _notices(selection: Selection, made: Sequence[str]) -> str:
        """One event a notice, so that a client parses `data` as one object."""
        return "".join(
            f"event: notice\nid: {selection.chunk.cursor(number)}\ndata: {line}\n\n"
            for number, line in zip(selection.numbers, made, strict=True)
        )

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:  # noqa: ARG002 - the object has no time
        return f"event: notice\nid: {cursor}\ndata: {jsonlines.notice(message, cursor, before)}\n\n".encode()

    def heartbeat(self, cursor: Cursor) -> bytes:
        return f"id: {cursor}\n\n".encode()

    def end(self) -> bytes:
        return b"event: end\ndata: {}\n\n"

    def farewell(self) -> bytes:
        return _SOON


class NewlineDelimitedJson:
    """One JSON object a line (application/x-ndjson)."""

    name = "ndjson"
    content_type = "application/x-ndjson"

    def __init__(self, *, cursors: bool = False) -> None:
        self.cursors = cursors

    def lines(self, selections: Sequence[Selection]) -> bytes:
        made = [line for selection in selections for line in jsonlines.objects(selection, cursors=self.cursors)]
        made.append("")
        return "\n".join(made).encode()

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:  # noqa: ARG002 - the object has no time
        return f"{jsonlines.notice(message, cursor, before)}\n".encode()

    def heartbeat(self, cursor: Cursor) -> bytes:
        return f"{jsonlines.heartbeat(cursor)}\n".encode()

    def end(self) -> bytes:
        return b""

    def farewell(self) -> bytes:
        return b""


class PlainText:
    """Heroku's lines; with `cursors` each begins with its cursor and a space."""

    name = "text"
    content_type = "text/plain; charset=utf-8"

    def __init__(self, *, cursors: bool = False) -> None:
        self.cursors = cursors

    def lines(self, selections: Sequence[Selection]) -> bytes:
        made = [line for selection in selections for line in text.lines(selection, cursors=self.cursors)]
        made.append("")
        return "\n".join(made).encode("latin-1")

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:  # noqa: ARG002 - the text says it
        return f"{text.notice(message, cursor, time, cursors=self.cursors)}\n".encode("latin-1")

    def heartbeat(self, cursor: Cursor) -> bytes:  # noqa: ARG002 - a text reader would see it
        return b""

    def end(self) -> bytes:
        return b""

    def farewell(self) -> bytes:
        return b""


class HerokuEvents:
    """Heroku's lines as server-sent events, one each, as its log sessions send them.

    A heartbeat is an event of its own type, without data, that nobody listens for: the heroku command line passes over
    an `id` that no `data` follows, and then would come back without a place where no line has come yet.
    """

    name = "heroku"
    content_type = "text/event-stream"
    cursors = False

    def lines(self, selections: Sequence[Selection]) -> bytes:
        return "".join(
            f"id: {selection.chunk.cursor(number)}\ndata: {line}\n\n"
            for selection in selections
            for number, line in zip(selection.numbers, text.lines(selection), strict=True)
        ).encode("latin-1")

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:  # noqa: ARG002 - the text says it
        return f"id: {cursor}\ndata: {text.notice(message, cursor, time)}\n\n".encode("latin-1")

    def heartbeat(self, cursor: Cursor) -> bytes:
        return f"event: heartbeat\nid: {cursor}\ndata:\n\n".encode()

    def end(self) -> bytes:
        return b""

    def farewell(self) -> bytes:
        return _SOON


class WebSocketMessages:
    """One text message a chunk or part of one: `{"cursor":"…","lines":[…]}`; notices and heartbeats as in NDJSON.

    Messages are joined with newlines, which JSON has none of, so that a batch of them is shared as one piece of bytes.
    """

    name = "websocket"
    content_type = "application/json"

    def __init__(self, *, cursors: bool = False) -> None:
        self.cursors = cursors

    def lines(self, selections: Sequence[Selection]) -> bytes:
        return "".join(map(self._message, selections)).encode()

    def _message(self, selection: Selection) -> str:
        made = jsonlines.objects(selection, cursors=self.cursors)
        if selection.chunk.stream.is_notice:
            return "".join(f"{line}\n" for line in made)
        return "".join(
            f'{{"cursor":"{cursor}","lines":[{",".join(lines)}]}}\n' for cursor, lines in _parts(selection, made)
        )

    def notice(self, message: str, cursor: Cursor, time: str, before: Cursor | None = None) -> bytes:  # noqa: ARG002 - the object has no time
        return f"{jsonlines.notice(message, cursor, before)}\n".encode()

    def heartbeat(self, cursor: Cursor) -> bytes:
        return f"{jsonlines.heartbeat(cursor)}\n".encode()

    def end(self) -> bytes:
        return b'{"end":true}\n'

    def farewell(self) -> bytes:
        return b""


def _parts(selection: Selection, made: Sequence[str]) -> Iterator[tuple[Cursor, Sequence[str]]]:
    """Runs of the lines `made` of a selection, each with the cursor of its last line."""
    pieces = len(selection.value) // PART_BYTES + 1
    step = len(made) // pieces + 1
    for begin in range(0, len(made), step):
        lines = made[begin : begin + step]
        yield selection.chunk.cursor(selection.numbers[begin + len(lines) - 1]), lines
