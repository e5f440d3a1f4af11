"""Reads an app's log to its end, or for ever, over as many connections as it takes.

The cursor of the last whole event is where the next connection goes on, so nothing is lost or printed twice. An
answer that is not a tail is complete with the event `end`; one that stops without it was cut.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from logsvc.client.output import Output, Progress, tell
from logsvc.client.render import Render
from logsvc.client.service import Answer, Backoff, Parameters, Service, app_path
from logsvc.client.sse import Event, Parser
from logsvc.errors import ClientError, Unavailable

_TRIES: Final = 10
"""How often in a row nothing may come before we give up; a tail that once was connected never does."""
_LEAST: Final = 0.01
"""Seconds before the second try, whatever the service says, so that tries can double."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to read."""

    app: str
    parameters: Parameters
    tail: bool
    limit: int | None = None
    """Most lines of an answer that is not a tail; one that is resumed could bring newer ones."""


class Follow:
    """One run of `paas logs`."""

    def __init__(
        self,
        service: Service,
        query: Query,
        render: Render,
        output: Output,
        *,
        backoff: Backoff | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._service, self._query, self._render, self._output = service, query, render, output
        self._backoff = backoff or Backoff()
        self._progress = progress
        self._path = app_path(query.app)
        self._cursor: str | None = None
        self._left = None if query.tail else query.limit
        self._lost_at: float | None = None
        self._connected = False
        self._answer: Answer | None = None
        self._reader_gone = threading.Event()

    def run(self) -> None:
        """Print everything. Raises ClientError, and BrokenPipeError when nobody reads what is printed."""
        try:
            with self._output.watched(self._stop):
                while not self._finished():
                    pass
        finally:
            if self._progress:
                self._progress.clear()

    def _finished(self) -> bool:
        """Read over one connection; whether that was all."""
        try:
            self._read()
        except (Unavailable, ValueError) as error:
            if self._reader_gone.is_set():
                raise BrokenPipeError from error
            if not isinstance(error, Unavailable):
                raise
            self._wait(error)
            return False
        return True

    def _read(self) -> None:
        """Print all of an answer. Raises Unavailable where it was cut."""
        headers = {"Accept": "text/event-stream"}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        with self._service.read(self._path, self._query.parameters, headers) as answer:
            self._answer = answer
            if self._reader_gone.is_set():
                raise BrokenPipeError
            if answer.status == 204:
                return
            if answer.content_type != "text/event-stream":
                raise ClientError(
                    f"{self._service.url} answers with {answer.content_type or 'something'}, not with a log; "
                    "is it the log service?"
                )
            self._begin(answer)
            self._print_all(answer)

    def _begin(self, answer: Answer) -> None:
        self._cursor = self._cursor or answer.cursor
        self._connected = True
        if self._lost_at is not None:
            tell(f"connected again after {monotonic() - self._lost_at:.1f} s, going on behind the last line")
            self._lost_at = None

    def _print_all(self, answer: Answer) -> None:
        parser = Parser()
        for piece in answer.pieces():
            events = parser.feed(piece)
            if parser.retry is not None:
                self._backoff.base = max(parser.retry, _LEAST)
            if not events:
                continue
            self._backoff.reset()
            end = next((n for n, event in enumerate(events) if event.type == "end"), None)
            self._output.write(self._printed(events[:end]))
            if not self._query.tail and (end is not None or self._left == 0):
                return
        raise Unavailable("the service closed the connection")

    def _printed(self, events: Iterable[Event]) -> bytes:
        """What events print, lines of neighbours in one go. The cursor moves on behind them."""
        texts: list[bytes] = []
        lines: list[bytes] = []
        for event in events:
            if event.type == "message":
                lines += event.data
            elif event.type == "notice" and event.data:
                texts += self._lines(lines), self._render.notice(event.data)
                lines = []
            self._cursor = event.id or self._cursor
        texts.append(self._lines(lines))
        return b"".join(texts)

    def _lines(self, data: list[bytes]) -> bytes:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if not data:
            return b""
        text = self._render.lines(data)
        if self._progress:
            self._progress.add(len(data), len(text))
        return text

    def _wait(self, error: Unavailable) -> None:
        """Say what is wrong and wait before the next try, or raise `error` where none is left."""
        if not self._connected and not error.answered:
            raise error
        if self._backoff.tries >= _TRIES and not (self._connected and self._query.tail):
            raise error
        if self._connected and self._lost_at is None:
            self._lost_at = monotonic()
        delay = self._backoff.next(error.retry_after)
        if self._progress:
            self._progress.clear()
        tell(f"{error}; trying again in {delay:.1f} s")
        if self._reader_gone.wait(delay):
            raise BrokenPipeError

    def _stop(self) -> None:
        self._reader_gone.set()
        if self._answer is not None:
            self._answer.interrupt()
