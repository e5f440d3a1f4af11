"""Clients that piece a log together over any number of connections, and remember what they saw of it.

They parse each form by themselves, not with the service's own client: whatever is cut inside of a line, an event or a
message counts as not received, and the next connection goes on behind the last cursor.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol

import aiohttp
import orjson

from tests.support import Tally

FORMS = ("sse", "ndjson", "text", "websocket")

_ACCEPT = {"sse": "text/event-stream", "ndjson": "application/x-ndjson", "text": "text/plain", "websocket": "*/*"}

_PAUSE, _LONGEST_PAUSE = 0.02, 0.2
"""Seconds until a client comes back: after a connection, and at most."""

_GONE = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError)


class Seen:
    """The lines of a log that somebody received, in order."""

    def __init__(self, *, from_start: bool = True) -> None:
        self.tally = Tally(from_start=from_start)
        self.first: str | None = None
        """The cursor of the first line."""
        self.cursor: str | None = None
        self.notices: list[str] = []
        self.lines = 0
        """All lines, the platform's included."""
        self.newest = 0.0
        """When the newest line was written, in Unix seconds."""
        self.latency = 0.0
        """Seconds from the write of a line until it was here, the longest."""
        self._hash = blake2b(digest_size=16)

    def line(self, line: bytes, cursor: str, written: str) -> None:
        self.newest = datetime.fromisoformat(written).timestamp()
        self.latency = max(self.latency, time.time() - self.newest)
        self.lines += 1
        self.first = self.first or cursor
        self.cursor = cursor
        self._hash.update(line + b"\n")
        self.tally.feed(line)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    @property
    def digest(self) -> tuple[int, str]:
        """Equal for two that saw the same lines with the same cursors in the same order."""
        return self.lines, self._hash.hexdigest()


class Live:
    """Somebody who gets lines, and since when they come again."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.live: float | None = None
        """Unix seconds."""

    @property
    def behind(self) -> float:
        """Seconds since the newest line was written."""
        return time.time() - self.seen.newest

    @property
    def told(self) -> str:
        """Who it is and how it fares, for who looks for the reason."""
        raise NotImplementedError

    def look(self, since: float) -> None:
        """Whether there is a line by now that was written after `since`."""
        if self.live is None and self.seen.newest >= since:
            self.live = time.time()


class Parser(Protocol):
    """Bytes of one connection in, what they say into a Seen. Unfinished ends are forgotten with the parser."""

    def feed(self, data: bytes, seen: Seen) -> None: ...


class _Lines:
    def __init__(self) -> None:
        self._rest = b""

    def _split(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


class SseParser(_Lines):
    """WHATWG HTML, server-sent events: an event counts when its blank line is there."""

    def __init__(self) -> None:
        super().__init__()
        self._event, self._id, self._data = b"", b"", list[bytes]()
        self.retry = b""

    def feed(self, data: bytes, seen: Seen) -> None:
        for line in self._split(data):
            name, _, value = line.partition(b": ")
            if not line:
                self._dispatch(seen)
                self._event, self._id, self._data = b"", b"", []
            elif name == b"id":
                self._id = value
            elif name == b"event":
                self._event = value
            elif name == b"data":
                self._data.append(value)
            elif name == b"retry":
                self.retry = value

    def _dispatch(self, seen: Seen) -> None:
        if self._event == b"notice":
            for data in self._data:
                seen.notice(data.decode())
        elif self._event == b"end":
            return
        else:
            for data in self._data:
                _take_json(data, seen)
        if self._id:
            seen.cursor = self._id.decode()


class NdjsonParser(_Lines):
    def feed(self, data: bytes, seen: Seen) -> None:
        for line in self._split(data):
            _take_json(line, seen)


class TextParser(_Lines):
    """Each line begins with its cursor."""

    def feed(self, data: bytes, seen: Seen) -> None:
        for line in self._split(data):
            cursor, _, rest = line.partition(b" ")
            if b" platform[logsvc]: " in rest[:60]:
                seen.notice(rest.decode())
                seen.cursor = cursor.decode()
            else:
                seen.line(line, cursor.decode(), rest.partition(b" ")[0].decode())


class MessageParser:
    """A WebSocket's messages, whole ones."""

    def feed(self, data: bytes, seen: Seen) -> None:
        message = orjson.loads(data)
        if "lines" not in message:
            _take_object(message, seen)
            return
        for line in message["lines"]:
            _take_object(line, seen)
        seen.cursor = message["cursor"]


def _take_json(data: bytes, seen: Seen) -> None:
    _take_object(orjson.loads(data), seen)


def _take_object(made: dict[str, Any], seen: Seen) -> None:
    if "notice" in made:
        seen.notice(made["notice"])
    if "message" in made:
        # Names are in the order in which they were written, so equal lines are equal bytes.
        seen.line(orjson.dumps(made), made["cursor"], made["time"])
    elif "cursor" in made:
        seen.cursor = made["cursor"]


_PARSERS: dict[str, Callable[[], Parser]] = {
    "sse": SseParser,
    "ndjson": NdjsonParser,
    "text": TextParser,
    "websocket": MessageParser,
}


class Tail:
    """One client that reads an app, and comes back whenever it is cut off. Run `run` in a task.

    Every second connection asks for compression.
    """

    def __init__(self, url: Callable[[], str], form: str = "sse", *, from_start: bool = True, **query: str) -> None:
        """`url` is asked at each connection; it reads from the first line on, or from now on; `query` filters."""
        self.seen = Seen(from_start=from_start)
        self._first = {"since": "1d"} if from_start else {"num": "0"}
        self.connections = 0
        self.refused = 0
        """Answers that were no 200."""
        self.farewells: list[str] = []
        """How servers have ended a connection, where the form can say it: a field of an event stream, a close code."""
        self.form = form
        self._url, self._query = url, query

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20) as session:
            pause = _PAUSE
            while True:
                before = self.connections
                with suppress(*_GONE):
                    await self._connect(session)
                pause = _PAUSE if self.connections > before else min(2 * pause, _LONGEST_PAUSE)
                # A client's backoff: nobody waits for anything here.
                await asyncio.sleep(pause)

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        query = {"tail": "1", "cursor": "1"} | self._query
        headers = {"Accept": _ACCEPT[self.form], "Accept-Encoding": ("identity", "gzip")[self.connections % 2]}
        if self.seen.cursor is None:
            query |= self._first
        elif self.form in {"sse", "websocket"}:
            headers["Last-Event-ID"] = self.seen.cursor
        else:
            query["after"] = self.seen.cursor
        parser = _PARSERS[self.form]()
        if self.form == "websocket":
            async with session.ws_connect(self._url(), params=query, headers=headers, max_msg_size=0) as socket:
                self.connections += 1
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        parser.feed(message.data.encode(), self.seen)
                self.farewells.append(str(socket.close_code))
            return
        async with session.get(self._url(), params=query, headers=headers) as answer:
            if answer.status != 200:
                self.refused += 1
                assert answer.status in {404, 503}, f"{answer.status}: {await answer.text()}"
                return
            self.connections += 1
            async for data in answer.content.iter_any():
                parser.feed(data, self.seen)
        if isinstance(parser, SseParser) and parser.retry:
            self.farewells.append(f"retry: {parser.retry.decode()}")


async def history(url: str, form: str = "ndjson", seen: Seen | None = None, **query: str) -> Seen:
    """Everything that is kept, read in one answer."""
    seen = seen or Seen()
    parser = _PARSERS[form]()
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            url, params={"cursor": "1"} | (query or {"since": "1d"}), headers={"Accept": _ACCEPT[form]}
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for data in answer.content.iter_any():
            parser.feed(data, seen)
    return seen


async def pages(url: str, lines: int) -> AsyncIterator[list[dict[str, Any]]]:
    """The same backwards, as a pane scrolls: the newest page first."""
    before: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        while True:
            query = {"num": str(lines), "cursor": "1"} | before
            async with session.get(url, params=query, headers={"Accept": _ACCEPT["ndjson"]}) as answer:
                assert answer.status == 200, await answer.text()
                page = [orjson.loads(line) for line in (await answer.read()).splitlines()]
            if not page:
                return
            yield page
            before = {"before": page[0]["cursor"]}


async def run_while(work: Awaitable[Any], *tails: Tail) -> Any:
    """Run tails for as long as some work takes, and give what that gives."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(tail.run()) for tail in tails]
        try:
            return await work
        finally:
            for task in tasks:
                task.cancel()
