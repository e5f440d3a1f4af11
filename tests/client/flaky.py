"""A real HTTP server that keeps one app's log and treats its clients as badly as it is told to.

It speaks the formats of the service: server-sent events with cursors, `Last-Event-ID`, `event: end`, problem
documents, idempotent posts.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import orjson
from aiohttp import web

from tests.support.wait import DEADLINE

Treatment = Callable[[web.Request, int], Awaitable[web.StreamResponse | None]]
"""Given a request and its number, from 0, an answer instead of the usual one, or None."""


@dataclass
class Flaky:
    """What a test sees and sets. Everything but `url` is used by the server's thread."""

    lines: list[bytes] = field(default_factory=list)
    """The messages of the log; a cursor is `1.0.<number>.0`."""
    cut_after: Callable[[], int | None] = lambda: None
    """Bytes of body after which the next answer is cut; None: it isn't."""
    treatment: Treatment | None = None
    retry_ms: int | None = 20
    event_lines: int = 7
    tail_until: int | None = None
    """A tail ends its connection, uncut, after this many lines were sent; else it stays open."""
    grow: int = 0
    """Lines added with each request after the first, so that an answer that is resumed could bring newer ones."""
    url: str = ""
    requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = field(default_factory=list)
    """Path, query and headers of each request so far."""
    posted: dict[str, bytes] = field(default_factory=dict)
    """Bodies by idempotency key, in the order in which they were stored."""
    posts: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def stored(self) -> list[bytes]:
        return b"".join(self.posted.values()).splitlines()


class _Cut(Exception):
    """The connection has been cut on purpose."""


@contextmanager
def flaky(**settings: object) -> Iterator[Flaky]:
    """The server, in a thread of its own, on a free port of 127.0.0.1."""
    server = Flaky(**settings)  # type: ignore[arg-type] # names and types are those of the dataclass
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(server, ready)))
    thread.start()
    assert ready.wait(DEADLINE)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(server.closing.set)
        thread.join()
        loop.close()


async def _serve(server: Flaky, ready: threading.Event) -> None:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_get("/v1/apps/{app}/logs", partial(_get, server))
    app.router.add_post("/v1/apps/{app}/logs", partial(_post, server))
    runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    ready.set()
    await server.closing.wait()
    await runner.cleanup()


async def _treated(server: Flaky, request: web.Request) -> web.StreamResponse | None:
    number = len(server.requests)
    query = {name: request.query.getall(name) for name in request.query}
    server.requests.append((request.path, query, dict(request.headers)))
    return await server.treatment(request, number) if server.treatment else None


async def _get(server: Flaky, request: web.Request) -> web.StreamResponse:
    if answer := await _treated(server, request):
        return answer
    tail = "tail" in request.query
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        at = int(last.split(".")[2]) + 1
        if server.grow:
            server.lines += [b"grown"] * server.grow
    else:
        at = max(0, len(server.lines) - int(request.query.get("num", len(server.lines))))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Logsvc-Cursor": f"1.0.{at - 1}.0"})
    left = server.cut_after()
    await response.prepare(request)
    with suppress(_Cut, ConnectionError):
        async for event in _events(server, at, tail=tail):
            left = await _write(request, response, event, left)
        if not tail:
            await _write(request, response, b"event: end\ndata: {}\n\n", left)
    return response


async def _events(server: Flaky, at: int, *, tail: bool) -> AsyncIterator[bytes]:
    if server.retry_ms is not None:
        yield b"retry: %d\n\n" % server.retry_ms
    while True:
        end = min(len(server.lines), at + server.event_lines)
        if at < end:
            yield event(at, server.lines[at:end])
            at = end
        elif not tail or (server.tail_until is not None and at >= server.tail_until):
            return
        else:
            yield b"id: 1.0.%d.0\n\n" % (at - 1)
            with suppress(TimeoutError):
                await asyncio.wait_for(server.closing.wait(), 0.01)
                return


async def _write(request: web.Request, response: web.StreamResponse, data: bytes, left: int | None) -> int | None:
    """Send `data`; cut the connection where `left` bytes run out, with or without what is still in buffers."""
    if left is None or len(data) <= left:
        await response.write(data)
        return None if left is None else left - len(data)
    await response.write(data[:left]) if left else None
    assert request.transport is not None
    if random.random() < 0.5:
        request.transport.abort()
    else:
        request.transport.close()
    raise _Cut


def event(at: int, messages: list[bytes]) -> bytes:
    """One event with lines from number `at` on."""
    data = b"".join(b"data: %b\n" % json_line(at + n, message) for n, message in enumerate(messages))
    return b"id: 1.0.%d.0\n%b\n" % (at + len(messages) - 1, data)


def json_line(number: int, message: bytes) -> bytes:
    process = ("web", "worker")[number % 2]
    return orjson.dumps(
        {
            "time": f"2026-11-23T02:{number // 60 % 60:02}:{number % 60:02}.{number:09}Z",
            "source": "app",
            "process": process,
            "dyno": f"{process}.1",
            "stream": "stdout",
            "message": message.decode("utf-8", "replace"),
        }
    )


def problem(status: int, **members: object) -> web.Response:
    """RFC 9457."""
    return web.Response(status=status, body=orjson.dumps(members), content_type="application/problem+json")


async def _post(server: Flaky, request: web.Request) -> web.StreamResponse:
    number = server.posts
    server.posts += 1
    body = await request.read()
    key = request.headers["Idempotency-Key"]
    if answer := await _treated(server, request):
        return answer
    server.posted.setdefault(key, body)
    if number % 3 == 1 and server.cut_after() is not None:
        assert request.transport is not None
        request.transport.abort()  # stored, but the client never hears of it
    return web.json_response({"lines": body.count(b"\n")}, status=200)
