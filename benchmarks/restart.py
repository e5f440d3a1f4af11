"""What tails notice of a server that is restarted or killed, or of a Kafka that is: seconds without a line.

    python -m benchmarks.restart [--tails N] [--rate N] [--runs N]

Two `logsvc serve`, and tails of one app spread over both. A tail that is cut waits as `paas` does, and comes back with
its cursor to the next server that listens, as a balancer would have it. Each line has to come once and in order.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median as middle
from typing import Any

import uvloop

from benchmarks.path import request_for, writer
from benchmarks.report import Report, cpu_seconds, median
from benchmarks.roles import NODE, Servers, platform, servers
from benchmarks.service import HELLO, make_pod
from logsvc.client.service import Backoff
from tests.support.roles import Platform, Serving
from tests.support.wait import eventually

_APP = "bench"
_LINE = re.compile(rb"seq=(\d+) ")
_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)
_RETRY = re.compile(rb"^retry: (\d+)$", re.MULTILINE)
SETTLE = 1.5
"""Seconds of lines before something is done to a server, and after all tails are live again."""
LONGEST = 60.0
"""Seconds until tails have to be live again."""


class Tail:
    """One client. `run` reads until cancelled."""

    def __init__(self, ports: Sequence[int], first: int) -> None:
        self._ports, self._turn = ports, first
        self._cursor = ""
        self._next: int | None = None
        self.faults = 0
        """Lines that were not the next one."""
        self.newest = self.gap = 0.0
        """When the newest line came; the longest time between two lines since the last `mark`."""

    def mark(self) -> None:
        self.gap = 0.0

    async def run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                reader, connection = await self._connected()
            except OSError:
                pass  # none listens
            else:
                await self._read(reader, connection, backoff)
            await asyncio.sleep(backoff.next())

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the next server that takes one, with the request sent. Raises OSError where none does."""
        self._turn += 1
        for turn in range(self._turn, self._turn + len(self._ports)):
            port = self._ports[turn % len(self._ports)]
            try:
                reader, connection = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                continue
            resume = f"Last-Event-ID: {self._cursor}\r\n".encode() if self._cursor else b""
            request = request_for(f"127.0.0.1:{port}", _APP, "tail=1&num=0")
            connection.write(request.removesuffix(b"\r\n") + resume + b"\r\n")
            return reader, connection
        raise ConnectionRefusedError

    async def _read(self, reader: asyncio.StreamReader, connection: asyncio.StreamWriter, backoff: Backoff) -> None:
        rest = b""
        try:
            while data := await reader.read(65536):
                events, end, rest = (rest + data).rpartition(b"\n\n")
                if retry := _RETRY.findall(events):
                    backoff.base = int(retry[-1]) / 1000
                if end and (ids := _ID.findall(events)):
                    self._cursor = ids[-1].decode()
                    self._take(events)
                    backoff.reset()
        except ConnectionError:
            pass
        finally:
            connection.close()

    def _take(self, events: bytes) -> None:
        for number in map(int, _LINE.findall(events)):
            self.faults += self._next not in {None, number}
            self._next = number + 1
            now = time.monotonic()
            if self.newest:
                self.gap = max(self.gap, now - self.newest)
            self.newest = now


async def read_tails(ports: Sequence[int], count: int) -> None:
    """For each time on stdin print how many tails have a newer line, and what all met with; `inf` begins anew."""
    tails = [Tail(ports, number) for number in range(count)]
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(tail.run()) for tail in tails]
        while since := await asyncio.to_thread(sys.stdin.readline):
            found = {
                "live": sum(tail.newest >= float(since) for tail in tails),
                "faults": sum(tail.faults for tail in tails),
                "gaps": [tail.gap for tail in tails],
            }
            if since == "inf\n":
                for tail in tails:
                    tail.mark()
            print(json.dumps(found), flush=True)
        for task in reading:
            task.cancel()


@dataclass
class Crowd:
    """The process of the tails."""

    process: "subprocess.Popen[str]"
    tails: int

    def ask(self, since: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{since}\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def wait_live(self) -> float:
        """Wait until each tail has a line that came from now on; the seconds it took."""
        now = time.monotonic()
        eventually(lambda: self.ask(now)["live"] == self.tails, LONGEST, "every tail to be live")
        return time.monotonic() - now

    def noticed(self, fault: Callable[[], object]) -> dict[str, float]:
        """What tails notice of it."""
        self.wait_live()
        time.sleep(SETTLE)
        self.ask(float("inf"))
        fault()
        self.wait_live()
        time.sleep(SETTLE)
        found = self.ask(float("inf"))
        assert not found["faults"], f"{found['faults']} lines came at a wrong place"
        return {"without_p50_s": middle(found["gaps"]), "without_max_s": max(found["gaps"])}


@contextmanager
def crowd(serves: Sequence[Serving], tails: int) -> Iterator[Crowd]:
    ports = [str(serve.port) for serve in serves]
    command = [sys.executable, "-m", "benchmarks.restart", "--read", str(tails), *ports]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Crowd(process, tails)
        finally:
            process.kill()


class Restarts:
    """Starts and stops servers, and counts what that takes."""

    def __init__(self, serves: Sequence[Serving]) -> None:
        self._serves = serves
        self.start_s: list[float] = []
        self.start_cpu_s: list[float] = []
        self.stop_s: list[float] = []

    def start(self, serve: Serving) -> None:
        begun = time.monotonic()
        serve.launch()
        eventually(lambda: serve.is_ready() or not serve.running, 60, "serve to start")
        assert serve.running, serve.stderr
        self.start_s.append(time.monotonic() - begun)
        self.start_cpu_s.append(cpu_seconds(serve.pid))

    def roll(self) -> None:
        """Each in turn, as an update of the software does it."""
        for serve in self._serves:
            begun = time.monotonic()
            serve.interrupt()
            serve.wait()
            self.stop_s.append(time.monotonic() - begun)
            self.start(serve)

    def figures(self) -> dict[str, float]:
        return {name: middle(getattr(self, name)) for name in ("start_s", "start_cpu_s", "stop_s")}


def measure(started: Servers, tails: int, rate: float) -> dict[str, dict[str, float]]:
    """Figures by case."""
    with platform(started) as made, ExitStack() as stack:
        serves = [made.serve(name) for name in ("1", "2")]
        for role in (made.collect(NODE), made.store("1")):
            role.launch()
            stack.callback(role.kill)
            eventually(role.is_ready, 60, "roles to start")
        restarts = Restarts(serves)
        for serve in serves:
            restarts.start(serve)
            stack.callback(serve.kill)
        log = make_pod(made.node(NODE), _APP, 0)
        log.write_bytes(HELLO)
        writing = stack.enter_context(writer(rate, 600, [log]))
        stack.callback(writing.kill)
        readers = stack.enter_context(crowd(serves, tails))
        rolling = readers.noticed(restarts.roll)
        return {
            "serves restarted in turn": rolling,
            "a serve killed": readers.noticed(serves[0].kill),
            **_restarted(made, readers, lambda: restarts.start(serves[0])),
            "start and stop of serve": restarts.figures(),
        }


def _restarted(made: Platform, readers: Crowd, start: Callable[[], None]) -> dict[str, dict[str, float]]:
    """Kafka killed and started: how long it takes itself, and how long tails take from when it listens."""
    start()
    took: dict[str, float] = {}

    def restart() -> None:
        begun = time.monotonic()
        made.kafka.restart()
        took["kafka_start_s"] = time.monotonic() - begun
        took["live_s"] = readers.wait_live()

    return {"Kafka killed and started": readers.noticed(restart) | took}


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        tails, *ports = map(int, sys.argv[2:])
        uvloop.run(read_tails(ports, tails))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tails", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("restart")
    with servers() as started:
        runs = [measure(started, asked.tails, asked.rate) for _ in range(asked.runs)]
    for case in runs[0]:
        report.add(f"{asked.tails} tails, {case}", median([run[case] for run in runs]))
    report.write()


if __name__ == "__main__":
    main()
