"""A receiver of drains that fails in every way a receiver can, and a judge of what came.

It runs in the test, or as a process of its own that can be killed:

    python -m tests.support.receiver PORT FILE [CERTIFICATE]

then it writes each frame to FILE before it answers.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests.support import drain_formats
from tests.support.certificates import serving
from tests.support.tally import Tally

Behaviour = Callable[[web.Request], Any]
"""Answers a request, or does not; may be a coroutine function."""


@dataclass(frozen=True)
class Frame:
    """What was posted."""

    id: str
    body: bytes
    headers: dict[str, str]
    path: str

    def texts(self) -> list[bytes]:
        """The messages."""
        kind = self.headers["Content-Type"]
        if kind == "application/logplex-1":
            messages = drain_formats.logplex(self.body)
            assert int(self.headers["Logplex-Msg-Count"]) == len(messages)
            return [message.text for message in messages]
        read = drain_formats.otlp if kind == "application/x-protobuf" else drain_formats.loki
        return [record.text.encode() for record in read(self.body)]


@dataclass
class Verdict:
    """What came, by the first receipt of each frame; a frame that comes again must be the same."""

    tally: Tally = field(default_factory=Tally)
    frames: dict[str, bytes] = field(default_factory=dict)
    repeated: int = 0
    texts: list[bytes] = field(default_factory=list)

    def feed(self, frame: Frame) -> None:
        known = self.frames.get(frame.id)
        if known is not None:
            assert known == frame.body, f"frame {frame.id} is another one the second time"
            self.repeated += 1
            return
        self.frames[frame.id] = frame.body
        for text in frame.texts():
            self.tally.feed(text)
            self.texts.append(text)

    @property
    def dropped(self) -> int:
        """Lines that notices of L10 counted."""
        return sum(int(text.split(b"): ")[1].split()[0]) for text in self.texts if text.startswith(b"Error L10"))


def answer(status: int = 204, **headers: str) -> Behaviour:
    return lambda _: web.Response(status=status, headers=headers)


async def hang(request: web.Request) -> web.Response:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError(request)


async def cut(request: web.Request) -> web.Response:
    """Closes the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Receiver:
    """Takes what is posted. `behave` says how it answers; what it answers with 2xx is in `verdict`."""

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave: Behaviour = behave or answer()
        self.script: list[Behaviour] = []
        """What it does to the next requests, before `behave`."""
        self.all: list[Frame] = []
        """Every frame that came, whatever was answered."""
        self.verdict = Verdict()
        self.url = ""
        self.kept: Callable[[Frame], None] = lambda _: None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def _posted(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {str(header): value for header, value in request.headers.items()}
        name = headers.get("Logplex-Frame-Id") or headers.get("Idempotency-Key", "")
        behave = self.script.pop(0) if self.script else self.behave
        # What is not acknowledged may have been taken all the same: first receipt is what counts.
        self.take(Frame(name, body, headers, request.raw_path))
        answered = behave(request)
        response: web.StreamResponse = await answered if asyncio.iscoroutine(answered) else answered
        return response

    def take(self, frame: Frame) -> None:
        """Keep what came, whatever is answered."""
        self.all.append(frame)
        self.verdict.feed(frame)
        self.kept(frame)

    @asynccontextmanager
    async def listening(self, port: int = 0, context: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        # aiohttp decompresses what says it is gzip.
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/{path:.*}", self._posted)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
            await site.start()
            scheme = "https" if context else "http"
            self.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


class Kept:
    """The frames that a process has written to a file, as they come."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        path.touch()

    def new(self) -> Iterator[Frame]:
        """Those that have come since. One that was cut when the process was killed was not answered."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, end, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(end)
        for line in whole.split(b"\n"):
            with suppress(orjson.JSONDecodeError):
                fields = orjson.loads(line)
                yield Frame(fields["id"], fields["body"].encode("latin-1"), fields["headers"], fields["path"])


async def _serve(port: int, file: Path, certificate: Path | None) -> None:
    context = serving(certificate) if certificate else None
    receiver = Receiver()
    with file.open("ab", buffering=0) as out:
        out.write(b"\n")  # ends what the process before may have left

        def keep(frame: Frame) -> None:
            fields = {
                "id": frame.id, "body": frame.body.decode("latin-1"), "headers": frame.headers, "path": frame.path,
            }  # fmt: skip
            out.write(orjson.dumps(fields) + b"\n")

        receiver.kept = keep
        async with receiver.listening(port, context):
            sys.stderr.write("receiver is ready\n")
            sys.stderr.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[2:]]
    asyncio.run(_serve(int(sys.argv[1]), files[0], files[1] if len(files) > 1 else None))
