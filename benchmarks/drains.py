"""Drains: what a line costs to one drain, and what 1,000 drains take, alone and beside many that fail.

    python -m benchmarks.drains [--lines N] [--drains N] [--rate N] [--seconds N] [--runs N] [--tls]

Lines go by logplex-1 to a receiver in a process of its own, which answers by the path that it is posted to: over plain
HTTP, or with `--tls` over HTTPS, a connection for each drain all the same. Delays are those of the oldest line of each
frame, from when it was written to when the frame had come.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import aiohttp
import uvloop

from benchmarks.path import write
from benchmarks.report import Report, cpu_seconds, median, memory, peak_memory, percentile
from benchmarks.roles import Roles, Servers, platform, running, servers
from benchmarks.service import make_pod
from tests.support.certificates import authority, serving, signed
from tests.support.roles import Role
from tests.support.wait import eventually

SETTINGS = {"drains.http": True, "drains.allow": '["127.0.0.1/32"]', "limits.drains": '{"standard": 100000}'}
SLOW = 3.0
"""Seconds after which a slow receiver answers."""
NEARLY = 0.98
"""Share of the lines that is waited for: the writer doesn't write quite as many to each file."""
BAD = ("hang", "fail", "slow")
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_COUNT = re.compile(rb"\r\nlogplex-msg-count: (\d+)\r\n", re.IGNORECASE)


class Taken:
    """What came of frames that were answered with 2xx."""

    def __init__(self) -> None:
        self.lines = 0
        self.delays: list[float] = []
        """Seconds, of each frame."""


class Connection(asyncio.Protocol):
    """One of the drain's connections: no more of HTTP than it takes."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._transport: asyncio.Transport
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) >= 4:
            head = bytes(self._data[:end])
            length = _number(_LENGTH, head)
            if len(self._data) < end + length:
                return
            self._take(head, bytes(self._data[end : end + 60]))
            del self._data[: end + length]

    def _take(self, head: bytes, begin: bytes) -> None:
        kind = head.split(b" ", 2)[1].split(b"/")[1]
        if kind == b"fail":
            self._transport.write(FAILED)
        elif kind == b"slow":
            asyncio.get_running_loop().call_later(SLOW, self._transport.write, TAKEN)
        elif kind != b"hang":
            self._transport.write(TAKEN)
            self._taken.lines += _number(_COUNT, head)
            written = datetime.fromisoformat(begin.split(b" ", 3)[2].decode()).timestamp()
            self._taken.delays.append(time.time() - written)


def _number(pattern: "re.Pattern[bytes]", head: bytes) -> int:
    found = pattern.search(head)
    assert found is not None
    return int(found[1])


async def receive(certificate: str | None) -> None:
    """Print the port; for each line on stdin what good receivers have so far; `forget` begins delays anew."""
    taken = Taken()
    loop = asyncio.get_running_loop()
    context = serving(Path(certificate)) if certificate is not None else None
    server = await loop.create_server(lambda: Connection(taken), "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    while asked := await asyncio.to_thread(sys.stdin.readline):
        if asked == "forget\n":
            taken.delays.clear()
        shares = {f"p{share}": percentile(taken.delays, share / 100) for share in (50, 99) if taken.delays}
        print(json.dumps({"lines": taken.lines, **shares}), flush=True)


class Tls(NamedTuple):
    """With what receivers speak TLS; nothing where they don't."""

    authority: str = ""
    certificate: str = ""

    @property
    def settings(self) -> dict[str, object]:
        """Those of drains that believe it."""
        return {**SETTINGS, "drains.ca_file": self.authority}


def tls_in(folder: Path) -> Tls:
    """Certificates that were just made."""
    key, ca = authority(folder, "authority")
    return Tls(str(ca), str(signed(folder, "receiver", key, ca)))


class Receiver:
    def __init__(self, process: "subprocess.Popen[str]", scheme: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.url = f"{scheme}://127.0.0.1:{int(self._out.readline())}"

    def ask(self, text: str = "") -> dict[str, float]:
        self._in.write(f"{text}\n")
        self._in.flush()
        found: dict[str, float] = json.loads(self._out.readline())
        return found

    def wait(self, lines: int) -> None:
        eventually(lambda: self.ask()["lines"] >= lines, 300, f"{lines} lines at the receiver")


@contextmanager
def receiver(tls: Tls) -> Iterator[Receiver]:
    command = [sys.executable, "-m", "benchmarks.drains", "--receive", *([tls.certificate] if tls.certificate else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Receiver(process, "https" if tls.certificate else "http")
        process.kill()


async def add_drains(roles: Roles, urls: dict[str, str]) -> None:
    """A drain for each app."""
    async with aiohttp.ClientSession(roles.url) as client:
        for app, url in urls.items():
            async with client.post(f"/apps/{app}/log-drains", json={"url": url}) as answer:
                assert answer.status == 201, await answer.text()


@contextmanager
def draining(roles: Roles) -> Iterator[Role]:
    """`logsvc drain`."""
    role = roles.platform.drain("1")
    role.launch()
    try:
        eventually(lambda: "delivered here" in role.stderr or not role.running, 60, "drain to start")
        yield role
    finally:
        role.kill()


def one(servers: Servers, tls: Tls, lines: int) -> dict[str, float]:
    """A drain that was down catches up."""
    with (
        platform(servers, tls.settings | {"log.level": "info"}) as made,
        running(made) as roles,
        receiver(tls) as receiving,
    ):
        log = make_pod(roles.data, "bench", 0)
        roles.wait_collected([log], 1)
        uvloop.run(add_drains(roles, {"bench": f"{receiving.url}/good"}))
        written = write(lines / 10, 10, [log])
        roles.wait_rows(written)
        with draining(roles) as role:
            begun, cpu = time.perf_counter(), cpu_seconds(role.pid)
            receiving.wait(written)
            took, used = time.perf_counter() - begun, cpu_seconds(role.pid) - cpu
            return {"lines_s": written / took, "lines_cpu_s": written / used, "mb": peak_memory(role.pid)}


def many(servers: Servers, tls: Tls, drains: int, rate: int, seconds: float, *, bad: bool) -> dict[str, float]:
    """Drains of as many apps; where `bad`, a tenth of them hangs, a tenth fails, and a tenth is slow."""
    with (
        platform(servers, tls.settings | {"log.level": "info"}) as made,
        running(made) as roles,
        receiver(tls) as receiving,
    ):
        apps = [f"app-{number}" for number in range(drains)]
        kinds = {app: BAD[number % 10] if bad and number % 10 < 3 else "good" for number, app in enumerate(apps)}
        share = list(kinds.values()).count("good") / drains
        logs = [make_pod(roles.data, app, 0) for app in apps]
        roles.wait_collected(logs, drains)
        uvloop.run(add_drains(roles, {app: f"{receiving.url}/{kind}/{app}" for app, kind in kinds.items()}))
        with draining(roles) as role:
            idle = memory(role.pid)
            taken = share * write(rate * drains, seconds / 2, logs)  # until connections are made and caches are warm
            receiving.wait(int(taken * NEARLY))
            receiving.ask("forget")
            cpu = cpu_seconds(role.pid)
            written = write(rate * drains, seconds, logs)
            receiving.wait(int((taken + share * written) * NEARLY))
            used = cpu_seconds(role.pid) - cpu
            found = receiving.ask()
            figures = {"delay_p50_s": found["p50"], "delay_p99_s": found["p99"]}
            costs = {"cpu_us": used / written * 1e6, "idle_mb": idle, "mb": peak_memory(role.pid)}
            return figures | costs


def main() -> None:
    if sys.argv[1:2] == ["--receive"]:
        uvloop.run(receive(sys.argv[2] if len(sys.argv) > 2 else None))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--drains", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    asked = parser.parse_args()
    report = Report("drains")
    with servers() as started, TemporaryDirectory() as folder:
        tls = tls_in(Path(folder)) if asked.tls else Tls()
        over = " over HTTPS" if asked.tls else ""
        catching_up = [one(started, tls, asked.lines) for _ in range(asked.runs)]
        report.add(f"one drain that catches up{over}", median(catching_up))
        for name, bad in (("alone", False), ("of which 30 % are bad", True)):
            runs = [many(started, tls, asked.drains, asked.rate, asked.seconds, bad=bad) for _ in range(asked.runs)]
            report.add(f"{asked.drains} drains{over} {name}", median(runs))
    report.write()


if __name__ == "__main__":
    main()
