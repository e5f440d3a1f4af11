"""A reader of event streams that follows WHATWG HTML, section 9.2.6, line by line: a browser's view of an answer."""

from codecs import getincrementaldecoder
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """A dispatched event."""

    type: str
    data: str
    id: str


class EventStream:
    """Feed it bytes as they come; it gives the events that they complete."""

    def __init__(self) -> None:
        self.last_event_id = ""
        """What a browser sends as Last-Event-ID when it reconnects."""
        self.retry: int | None = None
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._begun = False
        self._line = ""
        self._after_return = False
        self._type, self._id = "", ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        events = []
        for character in self._decoder.decode(data):
            if not self._begun:
                self._begun = True
                if character == "\ufeff":
                    continue
            if character == "\n" and self._after_return:
                self._after_return = False
                continue
            self._after_return = character == "\r"
            if character not in "\r\n":
                self._line += character
                continue
            line, self._line = self._line, ""
            if event := self._process(line):
                events.append(event)
        return events

    def _process(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, colon, value = line.partition(":")
        if colon and not field:
            return None
        value = value.removeprefix(" ")
        if field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, kind = self._data, self._type
        self._data, self._type = [], ""
        return Event(kind or "message", "\n".join(data), self.last_event_id) if data else None
