"""Clients that mean harm: how much each tried, what was refused, and what others noticed meanwhile.

    python -m benchmarks.hostile [--scale N] [--wait N]

One row for each way of doing harm. `tried` requests or connections; `refused` of them were answered 4xx or closed,
`served` got what little they asked for; `failed` is what the service broke on (5xx) and must be 0. Meanwhile somebody
else asks for their last ten lines twenty times a second: `request_…_ms`; `MB` is what the service's memory grew by.
Heads and bodies that never end are held through all of it and waited for, `--wait` seconds at most, until the service
lets them go. The last row is the others' request alone again, in a service that has survived.
"""

import argparse
import asyncio
import gzip
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

import aiohttp
import uvloop

from benchmarks.isolation import Tenant
from benchmarks.report import Report, memory, percentile
from benchmarks.service import Service, guarded
from tests.support.tokens import Issuer

AT_ONCE = 20
BOMB = gzip.compress(b"x" * 50_000_000)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = b"POST /apps/app/log-sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nContent-Length: 9999\r\n\r\n{"
MANY = b"".join(b"X-%d: y\r\n" % number for number in range(5_000))
LINES = ("a\rdata: evil", "a\r\revent: end", "\u2028id: 9", "\u0085data: evil", "\x1b]0;evil\x07", "\x00\x08evil")
"""What ends a line, or more, for somebody who reads it."""
PATTERNS = ("x{1,1000}" * 100, r"\pL" * 330, "((a{1,1000}){1,1000}){1,1000}", "(" * 500, "(a+)+$")
BREAKS = ("\r\nX-Evil: 1", "\n\ndata: evil", "\x00", "\u2028")
Try = Callable[[int], Awaitable[int]]
"""Does harm for the n-th time; the status of the answer, 0 where the connection was closed without one."""


class Hostile:
    """What a client may try with a token of its own, beside a tenant that means well."""

    def __init__(self, service: Service, issuer: Issuer, session: aiohttp.ClientSession) -> None:
        self._session, self._url = session, service.url
        host, _, port = service.url.removeprefix("http://").partition(":")
        self._place = host, int(port)
        token = issuer.token(tenant="hostile", plan="pro", seconds=86_400)
        self.tenant = Tenant(service.url, token, session)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._signed = ""

    async def endless(self, text: bytes, count: int) -> "Held":
        """Connections that say no more than this."""
        said = text % self._headers["Authorization"].encode() if b"%b" in text else text
        connections = [await asyncio.open_connection(*self._place) for _ in range(count)]
        for _, writer in connections:
            writer.write(said)
        return Held(connections)

    def ways(self) -> Iterator[tuple[str, int, Try]]:
        """Name, how often it is tried, and how."""
        yield "heads and URLs of 20 KB", 1000, self._long
        yield "heads of 5,000 headers", 1000, self._many
        yield "patterns that take long", 500, self._pattern
        yield "bodies that unpack to 50 MB", 20, self._bomb
        yield "line breaks in parameters", 1000, self._breaks
        yield "forged cursors", 1000, self._cursor
        yield "line ends and controls in lines", 200, self._ends
        yield "forged addresses of sessions", 2000, self._forged
        yield "addresses of sessions, changed by a character", 2000, self._changed
        yield "histories that are never read", 200, self._unread
        yield "tails that are never read", 200, self._never_read
        yield "floods of WebSocket messages", 4, self._flood
        yield "guessed tokens", 2000, self._guess  # the last: then good tokens that are new are refused here too

    async def _get(self, url: str, headers: dict[str, str] | None = None, **options: object) -> int:
        async with self._session.get(url, headers=headers or self._headers, **options) as answer:
            await answer.read()
            assert "X-Evil" not in answer.headers
            return answer.status

    async def _raw(self, request: bytes) -> int:
        reader, writer = await asyncio.open_connection(*self._place)
        with suppress(ConnectionError):
            writer.write(request)
            line = await reader.readline()
            return int(line.split()[1]) if line else 0
        writer.close()
        return 0

    async def _long(self, number: int) -> int:
        long = b"x" * 20_000
        url, header = (long, b"x") if number % 2 else (b"", long)
        return await self._raw(b"GET /" + url + b" HTTP/1.1\r\nHost: localhost\r\nX: " + header + b"\r\n\r\n")

    async def _many(self, number: int) -> int:  # noqa: ARG002 - all alike
        return await self._raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + MANY + b"\r\n")

    async def _pattern(self, number: int) -> int:
        return await self._get(f"{self.tenant.logs}?grep_re={quote(PATTERNS[number % len(PATTERNS)])}")

    async def _bomb(self, number: int) -> int:  # noqa: ARG002 - all alike
        headers = {**self._headers, "Content-Encoding": "gzip", "Content-Type": "text/plain"}
        async with self._session.post(self.tenant.logs, data=BOMB, headers=headers) as answer:
            return answer.status

    async def _breaks(self, number: int) -> int:
        name = ("process", "grep", "since", "after", "num", "stream")[number % 6]
        return await self._get(self.tenant.logs, params={name: f"x{BREAKS[number % len(BREAKS)]}"})

    async def _cursor(self, number: int) -> int:
        forged = f"{number}.{secrets.randbelow(9)}.{secrets.randbelow(10**18)}.{secrets.randbelow(10**9)}"
        return await self._get(f"{self.tenant.logs}?after={forged}&num=1")

    async def _forged(self, number: int) -> int:  # noqa: ARG002 - each is another one by chance
        return await self._get(f"{self._url}/v1/log-sessions/{secrets.token_urlsafe(200)}.{secrets.token_urlsafe(32)}")

    async def _changed(self, number: int) -> int:
        """The address of a session that is good, but for one character: of what is signed, or of the signature."""
        if not self._signed:
            async with self._session.post(f"{self._url}/apps/app/log-sessions", headers=self._headers) as answer:
                self._signed = (await answer.json())["logplex_url"]
        at = self._signed.rindex("/") + 1
        at += number % (len(self._signed) - at - 1)  # the last one has bits that mean nothing
        other = "A" if self._signed[at] != "A" else "B"
        return await self._get(self._signed[:at] + other + self._signed[at + 1 :], {"Accept": "text/event-stream"})

    async def _ends(self, number: int) -> int:
        """A line that would be several, or something else, to a client that takes it as it is; 500 where it is."""
        mark = f"mark{number}e"
        status = await self.tenant.push(f"{mark} {LINES[number % len(LINES)]}\n".encode())
        if status != 200:
            return status
        headers = {**self._headers, "Accept": "text/event-stream"}
        async with self._session.get(self.tenant.logs, params={"grep": mark, "num": "9"}, headers=headers) as answer:
            lines = re.split(rb"\r\n|\r|\n", await answer.read())
        if lines[0] == b"event: notice":  # that not all of history was searched
            lines = lines[4:]
        said = [line for line in lines if line]
        whole = len(said) == 4 and said[1].startswith(b"data: {") and said[2:] == [b"event: end", b"data: {}"]
        return 200 if whole else 500

    async def _guess(self, number: int) -> int:
        return await self._get(self.tenant.logs, {"Authorization": f"Bearer lsv_{number}{secrets.token_urlsafe(24)}"})

    async def _never_read(self, number: int) -> int:
        """A tail whose client sleeps while its app writes 10 KB for each of them."""
        reader, writer = await asyncio.open_connection(*self._place, limit=1)
        token = self._headers["Authorization"].encode()
        path = self.tenant.logs.removeprefix(self._url).encode()
        writer.write(b"GET %b?tail=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n\r\n" % (path, token))
        await self.tenant.push((b"x" * 99 + b"\n") * 100)
        await asyncio.sleep(max(0.0, 3 - number / 100))  # so that they are there together
        writer.transport.abort()
        reader.feed_eof()
        return 200

    async def _unread(self, number: int) -> int:
        """All lines there are, asked for by a client that sleeps."""
        reader, writer = await asyncio.open_connection(*self._place, limit=1)
        token = self._headers["Authorization"].encode()
        path = self.tenant.logs.removeprefix(self._url).encode()
        writer.write(b"GET %b?since=1d HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n\r\n" % (path, token))
        await asyncio.sleep(max(1.0, 3 - number / 100))
        writer.transport.abort()
        reader.feed_eof()
        return 200

    async def _flood(self, number: int) -> int:
        said = ('{"filter":{}}', "{}", '{"pause":true}', '{"filter":{"grep_re":"(\\\\w{1,90}x){1,9}"}}')[number]
        async with self._session.ws_connect(f"{self.tenant.logs}?tail=1&num=0", headers=self._headers) as socket:

            async def read() -> None:
                async for _ in socket:
                    pass

            reading, end = asyncio.create_task(read()), time.monotonic() + 3
            while time.monotonic() < end:
                for _ in range(100):
                    await socket.send_str(said)
                await asyncio.sleep(0)
            reading.cancel()
        return 200


class Held:
    """Connections that are waited for until the service ends them."""

    def __init__(self, connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self._connections, self._begun = connections, time.monotonic()

    async def ended(self, seconds: float) -> dict[str, float]:
        """How many the service has ended `seconds` after they were made, or sooner."""
        closed = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds - (time.monotonic() - self._begun))):
                for reader, _ in self._connections:
                    with suppress(ConnectionError):
                        await reader.read()
                    closed += 1
        for _, writer in self._connections:
            writer.close()
        return {"tried": float(len(self._connections)), "refused": float(closed), "served": 0.0, "failed": 0.0}


@asynccontextmanager
async def noticed(other: Tenant, pid: int) -> AsyncIterator[dict[str, float]]:
    """What the other tenant's requests take during the block, and by how much memory grows."""
    took: list[float] = []
    enough = asyncio.Event()
    figures: dict[str, float] = {}
    before = memory(pid)

    async def ask() -> None:
        while True:
            begun = time.perf_counter()
            assert await other.read("num=10") == 200
            took.append((time.perf_counter() - begun) * 1000)
            if len(took) == 20:
                enough.set()
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        yield figures
        async with asyncio.timeout(60):
            await enough.wait()
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
    figures |= {
        "request_p50_ms": percentile(took, 0.5),
        "request_p99_ms": percentile(took, 0.99),
        "MB": memory(pid) - before,
    }


async def tried(count: int, attempt: Try) -> dict[str, float]:
    got: Counter[str] = Counter()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            status = await attempt(number)
            got["served" if 200 <= status < 300 else "failed" if status >= 500 else "refused"] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(count, AT_ONCE)):
            tasks.create_task(work())
    return {"tried": float(count), **{name: float(got[name]) for name in ("refused", "served", "failed")}}


async def measure(service: Service, issuer: Issuer, asked: argparse.Namespace, report: Report) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        other = Tenant(service.url, issuer.token(tenant="calm", seconds=86_400), session)
        await other.stored(10_000)
        hostile = Hostile(service, issuer, session)
        await hostile.tenant.stored(10_000)
        async with noticed(other, service.pid) as figures:
            await asyncio.sleep(3)
        report.add("nobody else", figures)
        held = {
            "heads that never end": await hostile.endless(HEAD, int(500 * asked.scale)),
            "bodies that never end": await hostile.endless(BODY, int(500 * asked.scale)),
        }
        for name, count, attempt in hostile.ways():
            async with noticed(other, service.pid) as figures:
                got = await tried(max(4, int(count * asked.scale)) if count > 4 else count, attempt)
            report.add(name, {**got, **figures})
        for name, connections in held.items():
            async with noticed(other, service.pid) as figures:
                got = await connections.ended(asked.wait)
            report.add(name, {**got, **figures})
        async with noticed(other, service.pid) as figures:
            await asyncio.sleep(3)
        report.add("nobody else, afterwards", figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of how much is tried")
    parser.add_argument("--wait", type=float, default=90, help="seconds for heads that never end")
    asked = parser.parse_args()
    report = Report("hostile")
    with guarded() as (service, issuer):
        uvloop.run(measure(service, issuer, asked, report))
    report.write()


if __name__ == "__main__":
    main()
