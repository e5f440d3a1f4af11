"""A tenant at its limits, and what another one notices of it; connections that are opened and left.

    python -m benchmarks.isolation [--plan free --plan starter] [--seconds N] [--idle N]

`alone` and `beside …`: a tenant that writes a line twenty times a second and tails it, and asks for its last 100 lines
and for a rare word ten times a second; latencies of both. Beside it, in a process of its own, another tenant of that
plan has as many tails as it may and asks for one more over and over, posts as fast as it is let (and tries again after
0.1 s), and searches its whole history in twenty places at once; that process is at the lowest priority, so that what
shows is the work that it makes for the service. `ratio` rows divide the second by the first, of one
run. `idle`: connections to the port that say nothing, how many were tried, refused and lived on, and what somebody
else's request took meanwhile.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import aiohttp
import uvloop

from benchmarks.report import Report, memory, percentile
from benchmarks.service import Service, guarded
from logsvc.config import Limits
from tests.support.tokens import Issuer

HISTORY = 200_000
"""Lines of each tenant that are stored beforehand."""
SEARCHES = 20
POST = (b"x" * 99 + b"\n") * 1000
EVENTS = {"Accept": "text/event-stream"}
Figures = dict[str, float]


class Tenant:
    """Requests of one tenant for its app."""

    def __init__(self, url: str, token: str, session: aiohttp.ClientSession) -> None:
        self.logs = f"{url}/v1/apps/app/logs"
        self._volume = f"{url}/v1/apps/app/volume"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
        self._session = session

    async def push(self, data: bytes) -> int:
        async with self._session.post(self.logs, data=data, headers=self._headers) as answer:
            return answer.status

    async def read(self, query: str) -> int:
        async with self._session.get(f"{self.logs}?{query}", headers=self._headers) as answer:
            await answer.read()
            return answer.status

    async def tail(self) -> aiohttp.ClientResponse:
        return await self._session.get(f"{self.logs}?tail=1&num=0", headers={**self._headers, **EVENTS})

    async def stored(self, lines: int) -> None:
        """Put lines into history, and wait until they are there."""
        first = count = 0
        while first < lines:
            text = b"".join(b"line %d of history\n" % number for number in range(first, first + 10_000))
            status = await self.push(text)
            if status == 200:
                first += 10_000
            else:
                assert status == 429, status
                await asyncio.sleep(0.5)
        while count < lines:
            async with self._session.get(f"{self._volume}?step=1h", headers=self._headers) as answer:
                count = sum(bucket["lines"] for bucket in (await answer.json())["buckets"])
        await asyncio.sleep(2)  # merges of what was written just now are over, and it is in the store


@contextmanager
def beside(url: str, token: str, plan: str) -> Iterator[Connection]:
    """A process of a tenant at its limits; on request it says what it has got, once."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=greedy, args=(url, token, plan, there))
    process.start()
    there.close()  # so that its end is seen here
    try:
        assert here.recv() == "at its limits"
        yield here
    finally:
        process.kill()
        process.join()


def greedy(url: str, token: str, plan: str, pipe: Connection) -> None:
    os.nice(19)  # what it takes of the processor for itself is not the service's doing
    uvloop.run(_greedy(url, token, plan, pipe))


async def _greedy(url: str, token: str, plan: str, pipe: Connection) -> None:
    got: Counter[str] = Counter()
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        tenant = Tenant(url, token, session)
        await tenant.stored(HISTORY)

        async def drink(tail: aiohttp.ClientResponse) -> None:
            async for data in tail.content.iter_any():
                got["delivered_bytes"] += len(data)

        async def one_more() -> None:
            while True:
                async with await tenant.tail() as tail:
                    got[f"tails_{tail.status}"] += 1
                await asyncio.sleep(0.05)

        async def post() -> None:
            while True:
                status = await tenant.push(POST)
                got[f"posts_{status}"] += 1
                if status == 429:
                    await asyncio.sleep(0.1)

        async def search(number: int) -> None:
            while True:
                got[f"searches_{await tenant.read(f'num=10&grep_re=n[o]where{number}')}"] += 1

        for _ in range(Limits().tails[plan]):
            tail = await tenant.tail()
            assert tail.status == 200
            tasks.create_task(drink(tail))
        tasks.create_task(one_more())
        for _ in range(4):
            tasks.create_task(post())
        for number in range(SEARCHES):
            tasks.create_task(search(number))
        pipe.send("at its limits")
        await asyncio.to_thread(pipe.recv)
        pipe.send(dict(got))


async def latencies(tenant: Tenant, seconds: float) -> Figures:
    """What a tenant notices of the service."""
    live: list[float] = []
    sent, complete = -1, asyncio.Event()
    asked: dict[str, list[float]] = {"num=100": [], "num=100&grep=nowhere": []}
    tail = await tenant.tail()
    assert tail.status == 200

    async def read() -> None:
        async for line in tail.content:
            if b"at=" in line:
                live.append((time.perf_counter() - float(line.split(b"at=")[1].split()[0])) * 1000)
                if len(live) == sent:
                    complete.set()

    async def ask(query: str) -> None:
        while True:
            begun = time.perf_counter()
            assert await tenant.read(query) == 200
            asked[query].append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(read()), *(tasks.create_task(ask(query)) for query in asked)]
        posts = int(seconds * 20)
        for _ in range(posts):
            assert await tenant.push(b"at=%f line\n" % time.perf_counter()) == 200
            await asyncio.sleep(0.05)
        sent = posts
        async with asyncio.timeout(120):
            if len(live) < sent:
                await complete.wait()
        for task in working:
            task.cancel()
    tail.close()
    figures = {}
    for name, values in (("live", live), ("last_100", asked["num=100"]), ("rare_word", asked["num=100&grep=nowhere"])):
        figures |= {f"{name}_p50_ms": percentile(values, 0.5), f"{name}_p99_ms": percentile(values, 0.99)}
    return figures


async def idle(service: Service, tenant: Tenant, wanted: int) -> Figures:
    """Connections that say nothing, from as many addresses of loopback as they need ports."""
    before, loop = memory(service.pid), asyncio.get_running_loop()
    host, _, port = service.url.removeprefix("http://").partition(":")
    opened: list[socket.socket] = []
    refused = 0
    for number in range(wanted):
        one = socket.socket()
        one.setblocking(False)
        try:
            async with asyncio.timeout(5):
                await loop.sock_connect(one, (host, int(port)))
            opened.append(one)
        except (OSError, TimeoutError):
            refused += 1
            one.close()
        if number % 500 == 0:
            await asyncio.sleep(0)
    took = []
    for _ in range(100):
        begun = time.perf_counter()
        assert await tenant.read("num=10") == 200
        took.append((time.perf_counter() - begun) * 1000)
    alive = 0
    for one in opened:
        with suppress(BlockingIOError):
            one.recv(1)
            continue  # closed by the other side
        alive += 1
    figures = {
        "tried": float(wanted),
        "refused": float(refused),
        "survived": float(alive),
        "request_p50_ms": percentile(took, 0.5),
        "request_p99_ms": percentile(took, 0.99),
        "kB_each": (memory(service.pid) - before) * 1000 / max(1, len(opened)),
    }
    for one in opened:
        one.close()
    return figures


async def measure(service: Service, issuer: Issuer, asked: argparse.Namespace, report: Report) -> None:
    async with aiohttp.ClientSession() as session:
        tenant = Tenant(service.url, issuer.token(tenant="calm", plan="pro", seconds=86_400), session)
        await tenant.stored(HISTORY)
        await latencies(tenant, 2)
        for plan in asked.plan or ["free", "starter"]:
            alone = await latencies(tenant, asked.seconds)
            report.add(f"alone ({plan})", alone)
            token = issuer.token(tenant=f"greedy-{plan}", plan=plan, seconds=86_400)
            with beside(service.url, token, plan) as other:
                crowded = await latencies(tenant, asked.seconds)
                other.send("enough")
                got = other.recv()
            report.add(f"beside {plan}", crowded)
            report.add(f"ratio, {plan}", {name.removesuffix("_ms"): crowded[name] / alone[name] for name in alone})
            report.add(f"what {plan} got", {name: got[name] for name in sorted(got)})
        report.add("idle connections", await idle(service, tenant, asked.idle))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", action="append", choices=sorted(Limits().tails))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--idle", type=int, default=10_000)
    asked = parser.parse_args()
    report = Report("isolation")
    with guarded() as (service, issuer):
        uvloop.run(measure(service, issuer, asked, report))
    report.write()


if __name__ == "__main__":
    main()
