"""Server-sent events, the reader's side: bytes in, events out, no I/O (WHATWG HTML, section 9.2.6).

An event counts once the blank line after it has arrived; a cut one is never seen, so going on behind the last `id`
is exact. Events of one shape, an `id` and then `data` lines, are taken apart in bulk.
"""

from typing import Final, NamedTuple

from logsvc.errors import ClientError

MAX_EVENT = 64 * 1024 * 1024
"""Most bytes of one event; a chunk of lines is at most a few MiB of JSON."""

_BOM = b"\xef\xbb\xbf"
_LONG: Final = 2048


class Event(NamedTuple):
    """What one block of the stream says.

    Events without data are passed on too, where a browser would drop them: a heartbeat is an `id` alone.
    """

    type: str
    """`message` where the stream names none."""
    data: list[bytes]
    """The values of the `data` fields: empty where there was none."""
    id: str
    """The last `id` of the stream so far, empty before the first."""


class Parser:
    """Takes a stream apart however it was split: `feed` returns the events that are complete by now.

    Raises ClientError where an event exceeds `limit` bytes.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self.id = ""
        self.retry: float | None = None
        """Seconds to wait before reconnecting, where the stream named it."""
        self._limit = limit
        self._rest = b""
        self._started = False
        self._after_return = False

    def feed(self, data: bytes) -> list[Event]:
        if self._after_return or b"\r" in data:
            data = self._with_newlines(data)
        scanned = max(0, len(self._rest) - 1)
        buffer = self._rest + data
        if not self._started:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._rest = buffer
                return []
            self._started, buffer, scanned = True, buffer.removeprefix(_BOM), 0
        end = buffer.rfind(b"\n\n", scanned)
        self._rest = buffer if end < 0 else buffer[end + 2 :]
        if len(self._rest) > self._limit:
            raise ClientError(f"the service sent an event of more than {self._limit} bytes")
        return self._events(buffer[:end]) if end >= 0 else []

    def _events(self, text: bytes) -> list[Event]:
        """The events of whole blocks."""
        # A long event most often comes alone, and looking for another one is a pass over all of it.
        if text.find(b"\n\n", 0, _LONG) < 0 and (event := self._id_and_data(text)):
            return [event]
        blocks = (block.strip(b"\n") for block in text.split(b"\n\n"))
        return [event for block in blocks if block and (event := self._id_and_data(block) or self._fields(block))]

    def _with_newlines(self, data: bytes) -> bytes:
        r"""`\r` and `\r\n` end lines too; a `\r` counts at once, and the `\n` that may come after it is dropped."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        if data.endswith(b"\r"):
            self._after_return = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _id_and_data(self, block: bytes) -> Event | None:
        """A block of that shape, in bulk. None where it has another."""
        head, _, body = block.partition(b"\n")
        if not (head.startswith(b"id: ") and body.startswith(b"data: ")) or b"\0" in head:
            return None
        data = body[6:].split(b"\ndata: ")
        if b"\n" in b"".join(data):
            return None
        self.id = head[4:].decode("utf-8", "replace")
        return Event("message", data, self.id)

    def _fields(self, block: bytes) -> Event | None:
        """Any block, line by line. None where it holds comments and `retry` only."""
        kind, seen = "message", False
        data: list[bytes] = []
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match name:
                case b"data":
                    data.append(value)
                case b"id" if b"\0" not in value:
                    self.id, seen = value.decode("utf-8", "replace"), True
                case b"event":
                    kind = value.decode("utf-8", "replace") or "message"
                case b"retry" if value.isdigit():
                    self.retry = min(int(value[:12]) / 1000, 3600.0)
                case _:
                    pass
        if not data and not seen:
            return None
        return Event(kind, data, self.id)
