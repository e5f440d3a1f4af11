"""Tokens and tails: what it takes from a request with a JWT to the first byte, and how many tails open in a second.

    python -m benchmarks.access [--tails N] [--requests N] [--apps N] [--rate N] [--seconds N]

`set-up`: POST of a log session with a token that was never seen, then its first byte; one at a time. `opening`: new
tails as fast as they are answered, each with its own JWT, in CPU-seconds of the service. `spread`: tails over many
apps, each line's latency from the post that brought it to the client.
"""

import argparse
import asyncio
import json
import time

import aiohttp
import uvloop

from benchmarks.report import Report, cpu_seconds, percentile
from benchmarks.service import Service, guarded
from tests.support.tokens import Issuer

POST = 50
"""Lines of one post."""
EVENTS = {"Accept": "text/event-stream"}


SETTINGS = {
    "LOGSVC_LIMITS_TAILS": json.dumps({"standard": 1_000_000}),
    "LOGSVC_LIMITS_PUSH_BYTES": json.dumps({"standard": 1 << 40}),
}


class Client:
    """Requests, each with a token of its own."""

    def __init__(self, service: Service, issuer: Issuer, session: aiohttp.ClientSession) -> None:
        self.url, self._issuer, self._session = service.url, issuer, session
        self._made = 0

    def token(self) -> dict[str, str]:
        self._made += 1
        return {"Authorization": f"Bearer {self._issuer.token(jti=str(self._made))}"}

    async def push(self, app: str, text: str, token: dict[str, str]) -> None:
        async with self._session.post(f"{self.url}/v1/apps/{app}/logs", data=text, headers=token) as answer:
            assert answer.status == 200, await answer.text()

    async def set_up(self, app: str) -> float:
        """Milliseconds to the first byte of a new session."""
        token = self.token()
        begun = time.perf_counter()
        async with self._session.post(f"{self.url}/apps/{app}/log-sessions", headers=token) as answer:
            address = (await answer.json())["logplex_url"]
        async with self._session.get(address, headers=EVENTS) as answer:
            await answer.content.readany()
        return (time.perf_counter() - begun) * 1000

    async def tail(self, app: str, token: dict[str, str]) -> aiohttp.ClientResponse:
        url = f"{self.url}/v1/apps/{app}/logs?tail=1&num=0"
        answer = await self._session.get(url, headers={**EVENTS, **token})
        assert answer.status == 200, await answer.text()
        return answer


async def measure(service: Service, issuer: Issuer, asked: argparse.Namespace, report: Report) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = Client(service, issuer, session)
        apps = [f"app-{number}" for number in range(asked.apps)]
        for app in apps:
            await client.push(app, "hello\n" * 10, client.token())
        took = [await client.set_up(apps[number % len(apps)]) for number in range(asked.requests + 10)][10:]
        report.add("set-up to first byte", {"p50_ms": percentile(took, 0.5), "p99_ms": percentile(took, 0.99)})
        tokens = [client.token() for _ in range(asked.tails)]
        cpu = cpu_seconds(service.pid)
        begun = time.perf_counter()
        tails: list[aiohttp.ClientResponse] = []
        for first in range(0, asked.tails, 50):
            wave = range(first, min(first + 50, asked.tails))
            tails += await asyncio.gather(*(client.tail(apps[n % len(apps)], tokens[n]) for n in wave))
        seconds = time.perf_counter() - begun
        cpu = cpu_seconds(service.pid) - cpu
        report.add("opening tails", {"tails_per_s": asked.tails / seconds, "tails_per_cpu_s": asked.tails / cpu})
        report.add(f"{asked.tails} tails of {len(apps)} apps", await spread(client, tails, apps, asked))
        for tail in tails:
            tail.close()


async def spread(
    client: Client, tails: list[aiohttp.ClientResponse], apps: list[str], asked: argparse.Namespace
) -> dict[str, float]:
    """Latencies while the apps write together at the rate; the lines of a post name its time."""
    latencies: list[float] = []
    posts = int(asked.rate * asked.seconds / POST)
    expected = sum(POST * len(range(n % len(apps), posts, len(apps))) for n in range(len(tails)))
    complete = asyncio.Event()

    async def read(tail: aiohttp.ClientResponse) -> None:
        rest = b""
        while True:
            data = rest + await tail.content.readany()
            now = time.perf_counter()
            *lines, rest = data.split(b"\n")
            latencies.extend((now - float(line.split(b"at=")[1].split()[0])) * 1000 for line in lines if b"at=" in line)
            if len(latencies) >= expected:
                complete.set()

    token = client.token()
    free = asyncio.Semaphore(100)

    async def post(number: int) -> None:
        async with free:
            await client.push(apps[number % len(apps)], f"at={time.perf_counter()} line\n" * POST, token)

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(tail)) for tail in tails]
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as posting:
            for number in range(posts):
                posting.create_task(post(number))
                await asyncio.sleep(max(0.0, begun + number * POST / asked.rate - time.perf_counter()))
        seconds = time.perf_counter() - begun
        async with asyncio.timeout(60):
            await complete.wait()
        for reader in readers:
            reader.cancel()
    assert len(latencies) == expected, f"{len(latencies)} of {expected} lines came"
    return {
        "lines_per_s": posts * POST / seconds,
        "delivered_per_s": expected / seconds,
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tails", type=int, default=5000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    asked = parser.parse_args()
    report = Report("access")
    with guarded(SETTINGS) as (service, issuer):
        uvloop.run(measure(service, issuer, asked, report))
    report.write()


if __name__ == "__main__":
    main()
