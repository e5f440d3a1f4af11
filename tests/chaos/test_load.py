"""Readers of every kind at once: slow ones, silent ones, fifty filters. Nobody disturbs anybody; memory is bounded."""

import asyncio
import os
import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.chaos.readers import Seen, SseParser, Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.support import Tally, numbered, until
from tests.support.service import IDLE, Service

LINES = int(os.environ.get("CHAOS_LINES", "30000"))
MB = 1 << 20

SMALL = {"tail.window_bytes": "8MiB", "bus.recent_bytes": "4MiB", "bus.segment_bytes": "8MiB"}


@contextmanager
def asked(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for a tail from the start, with a small buffer, and read nothing."""
    request = (
        f"GET /v1/apps/{service.app}/logs?tail=1&cursor=1&since=1d HTTP/1.1\r\nHost: localhost\r\n"
        "Accept: text/event-stream\r\nConnection: close\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            sock.connect(("127.0.0.1", service.port))
            sock.sendall(request)
            sock.setblocking(False)
            sockets.append(sock)
        yield sockets


class Slow:
    """Reads a hundred times less than another has read, as long as lines are written; then the rest."""

    def __init__(self, sock: socket.socket, other: Tail) -> None:
        self.seen = Seen()
        self.hurry = False
        self._sock, self._other = sock, other

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        parser, rest, headers = SseParser(), b"", True
        while True:
            await until(lambda: self.hurry or self.seen.lines * 100 < self._other.seen.lines, 60)
            rest += await loop.sock_recv(self._sock, 1 << 18 if self.hurry else 4096)
            if headers:
                _, found, body = rest.partition(b"\r\n\r\n")
                headers, rest = not found, body if found else rest
            data, rest = (b"", rest) if headers else unchunk(rest)
            parser.feed(data, self.seen)


def unchunk(data: bytes) -> tuple[bytes, bytes]:
    """Whole chunks of an HTTP body (RFC 9112, section 7.1), joined; and what is left."""
    out = []
    while True:
        size, found, rest = data.partition(b"\r\n")
        if not found or len(rest) < int(size, 16) + 2:
            return b"".join(out), data
        out.append(rest[: int(size, 16)])
        data = rest[int(size, 16) + 2 :]


@pytest.mark.timeout(120)
async def test_slow_and_silent_readers_cost_nobody_anything(tmp_path: Path, figures: Callable[[str], None]) -> None:
    async with Service(tmp_path, settings=SMALL) as service:
        await service.start()
        with Writer(service.data, Writing(rate=10**6, lines=10, app="warm-up")) as writer:
            await asyncio.to_thread(writer.wait)
        with Writer(
            service.data, Writing(rate=4000, lines=LINES, pad=1000, long_every=0, rotate=8 * MB, keep=99)
        ) as writer:
            fast = Tail(lambda: service.logs)
            await run_while(until(lambda: fast.seen.lines > 0, what="the app"), fast)
            with asked(service, 21) as (slow_one, *silent):
                slow = Slow(slow_one, fast)
                service.forget_peak()
                before = service.rss()

                async def work() -> tuple[Report, int]:
                    report = await asyncio.to_thread(writer.wait)
                    await until(lambda: fast.seen.tally.complete(report.written), 60, "the fast one's last line")
                    behind = fast.seen.lines - slow.seen.lines
                    slow.hurry = True
                    await until(lambda: slow.seen.tally.complete(report.written), 60, "the slow one's last line")
                    return report, behind

                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(slow.run())
                    report, behind = await run_while(work(), fast)
                    reading.cancel()
                grown = service.peak() - before
                assert len(silent) == 20
        fast.seen.tally.check(report.written)
        slow.seen.tally.check(report.written)
        assert slow.seen.digest == fast.seen.digest
        assert behind > report.lines * 0.9, "the slow one wasn't slow"
        kept = await history(service.logs)
        assert kept.digest == fast.seen.digest
        assert fast.connections == 2
    written = report.lines * 1050 // MB
    figures(
        f"{report.lines} lines, {written} MB; the slow one was {behind} behind; memory grew by {grown // MB} MB at most"
    )
    assert grown < 400 * MB, "what 21 readers don't read is kept"


@pytest.mark.timeout(120)
async def test_fifty_filters_at_once(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """Each gets exactly the lines, in the order, that a plain reading of the whole log gives it."""
    names = ("web.1", "web.2", "worker.1", "clock.1")
    async with Service(tmp_path, settings=SMALL) as service:
        await service.start()
        with Writer(service.data, Writing(names, rate=1500, lines=LINES // 10)) as writer:
            whole = Collected(service, {})
            everybody = [Collected(service, wanted) for wanted in FILTERS]
            assert len(everybody) == 50

            async def work() -> Report:
                report = await asyncio.to_thread(writer.wait)
                await until(lambda: whole.tally.complete(report.written), 60, "the last line")
                expected = [[line for line in whole.lines if passes(line, wanted)] for wanted in FILTERS]
                counts = [len(lines) for lines in expected]
                await until(lambda: [len(each.lines) for each in everybody] >= counts, 60, "the last line of each")
                for each, lines in zip(everybody, expected, strict=True):
                    assert each.lines == lines, each.wanted
                figures(f"{len(FILTERS)} filters on {report.lines} lines: {min(counts)} to {max(counts)} lines pass")
                assert min(counts) > 0
                return report

            async with asyncio.TaskGroup() as group:
                reading = [group.create_task(each.run()) for each in (whole, *everybody)]
                try:
                    report = await work()
                finally:
                    for task in reading:
                        task.cancel()
        whole.tally.check(report.written)


Wanted = dict[str, tuple[str, ...]]

PROCESSES: tuple[Wanted, ...] = (
    {"process": ("web",)},
    {"process": ("worker",)},
    {"process": ("clock",)},
    {"process": ("web", "worker")},
    {"dyno": ("web.1",)},
    {"dyno": ("web.2", "clock.1")},
    {"process": ("web",), "dyno": ("web.2",)},
    {"not_process": ("clock",), "not_dyno": ("web.1",), "source": ("app",)},
)
TEXTS: tuple[Wanted, ...] = (
    {},
    {"stream": ("stderr",)},
    {"grep": ("seq=1",)},
    {"grep": ("SEQ=2", "9"), "ignore_case": ("1",)},
    {"exclude": ("7",)},
)
FILTERS: tuple[Wanted, ...] = (
    *(first | second for first in PROCESSES for second in TEXTS),
    {"process": ("idle",)},
    {"not_source": ("app",)},
    {"grep_re": (r"seq=\d{3}\b",)},
    {"grep_re": (r"^writer=w.*[02468] ",)},
    {"grep_re": (r"(?i)CLOCK.*11",), "exclude": ("110",)},
    {"exclude": ("web", "clock")},
    {"stream": ("stdout", "stderr"), "grep": ("web.2",)},
    {"not_stream": ("stderr",), "exclude": ("worker",)},
    {"grep": ("long ",)},
    {"grep": ("sleep",), "exclude": ("writer",)},
)


KINDS = ("process", "dyno", "source", "stream")


def passes(line: dict[str, str], wanted: Wanted) -> bool:
    """A filter, read plainly."""
    fold = str.lower if "ignore_case" in wanted else str
    message = fold(line["message"])
    return (
        all(line[name] in wanted[name] for name in KINDS if name in wanted)
        and not any(line[name] in wanted.get(f"not_{name}", ()) for name in KINDS)
        and all(fold(text) in message for text in wanted.get("grep", ()))
        and all(re.search(pattern, line["message"]) for pattern in wanted.get("grep_re", ()))
        and not any(fold(text) in message for text in wanted.get("exclude", ()))
    )


class Collected:
    """A tail from the start, every line kept."""

    def __init__(self, service: Service, wanted: Wanted) -> None:
        self.wanted = wanted
        self.lines: list[dict[str, str]] = []
        self.tally = Tally()
        self._service = service

    async def run(self) -> None:
        query = [("tail", "1"), ("since", "1d"), ("cursor", "1")]
        query += [(name, value) for name, values in self.wanted.items() for value in values]
        headers = {"Accept": "application/x-ndjson"}
        rest = b""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            # Until the app has its first line there is no such app.
            await until(lambda: self._there(session))
            async with session.get(self._service.logs, params=query, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                async for data in answer.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in map(orjson.loads, lines):
                        if "message" in line:
                            self.lines.append(line)
                            self.tally.feed(line["message"])

    async def _there(self, session: aiohttp.ClientSession) -> bool:
        async with session.get(self._service.logs, params={"num": "0"}) as answer:
            return answer.status == 200


@pytest.mark.parametrize("procfile", [IDLE, None], ids=["collecting", "pushed"])
async def test_a_thousand_connections_that_send_nothing(tmp_path: Path, procfile: str | None) -> None:
    """With the few open files that a shell gives to a program."""
    count = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        prefix = ("prlimit", f"--nofile=1024:{hard}")
        async with Service(tmp_path, procfile=procfile, prefix=prefix) as service:
            await service.start()
            before = service.rss()
            with ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                    body = b"".join(numbered("a", seq) + b"\n" for seq in range(1000))
                    url = f"{service.logs}?process=web&dyno=web.1"
                    async with session.post(url, data=body, headers={"Content-Type": "text/plain"}) as answer:
                        assert answer.status < 300, await answer.text()
                    (await history(service.logs)).tally.check({"a": 1000})
                    tail = Tail(lambda: service.logs)
                    await run_while(until(lambda: tail.seen.tally.complete({"a": 1000})), tail)
                    async with session.get(f"{service.url}/readyz") as answer:
                        assert answer.status == 200
                assert service.rss() - before < 100 * MB
            assert await service.stop() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
