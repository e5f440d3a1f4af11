"""The whole path in one process: CRI files to a tail and into history, and how long a line takes to the terminal.

    python -m benchmarks.path [--rates 10000,100000,300000] [--seconds N] [--files N] [--runs N] [--client sse|paas]

The writer, the service and the client share the machine. A line's latency is the time from its CRI time, which the
writer takes just before it writes, to when the client has read it.
"""

import argparse
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.report import Report, cpu_seconds, median, peak_memory, percentile
from benchmarks.service import Service, make_pod, running

_SEQUENCE = re.compile(rb"seq=(\d+) file=(\d+) ")
_LINE = b'"message":"seq='
_TIME = re.compile(rb'"time":"([^"]{29})Z"')


class Client(threading.Thread):
    """Reads one tail to the end: counts its lines, checks their sequence, samples their latency."""

    def __init__(self, service: Service, app: str) -> None:
        super().__init__(daemon=True)
        address = urlsplit(service.url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.sendall(request_for(address.netloc, app, "tail=1&num=0&process=web"))
        self._socket.recv(4096)
        self.lines = 0
        self.last = 0.0
        """When the last line came, by `time.perf_counter`."""
        self.faults = 0
        self._delays: list[float] = []
        self._next: dict[bytes, int] = {}

    def run(self) -> None:
        rest = b""
        while data := self._socket.recv(1 << 20):
            now = time.time()
            data = rest + data
            cut = data.rfind(b"\n\n") + 2
            if cut == 1:
                rest = data
                continue
            events, rest = data[:cut].split(b"\n\n"), data[cut:]
            for event in events:
                self._check(event, now)

    def _check(self, event: bytes, now: float) -> None:
        """One event holds lines of one file that follow one another: as many as its first and last one say."""
        count = event.count(_LINE)
        if not count:
            return
        first, last = _SEQUENCE.search(event), _SEQUENCE.search(event, event.rfind(_LINE))
        assert first is not None
        assert last is not None
        file = first[2]
        whole = last[2] == file and int(last[1]) - int(first[1]) == count - 1
        self.faults += not whole or int(first[1]) != self._next.get(file, 0)
        self._next[file] = int(last[1]) + 1
        self.lines += count
        self.last = time.perf_counter()
        stamp = _TIME.search(event)
        assert stamp is not None
        self._delays.append(now - _seconds(stamp[1]))

    def expect(self, lines: int, seconds: float = 60) -> None:
        """Wait until it has all lines. Raises AssertionError where some are missing or not in their order."""
        end = time.perf_counter() + seconds
        while self.lines < lines and time.perf_counter() < end:
            time.sleep(0.005)
        assert self.lines == lines, f"{lines - self.lines} of {lines} lines are missing in the tail"
        assert not self.faults, f"{self.faults} lines out of order"

    def delays(self) -> dict[str, float]:
        """From a line's write to its arrival."""
        return {f"p{share}_ms": percentile(self._delays, share / 100) * 1000 for share in (50, 99)}


def _seconds(stamp: bytes) -> float:
    return datetime.fromisoformat(stamp[:26].decode() + "+00:00").timestamp()


def request_for(host: str, app: str, query: str) -> bytes:
    """Asks for an app's lines as server-sent events."""
    return f"GET /v1/apps/{app}/logs?{query} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode()


def writer(rate: float, seconds: float, logs: Sequence[Path]) -> "subprocess.Popen[bytes]":
    """A process that writes lines to the files, and in the end says how many."""
    command = [sys.executable, "-m", "benchmarks._writer", str(rate), str(seconds), *map(str, logs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def write(rate: float, seconds: float, logs: Sequence[Path]) -> int:
    """Have lines written to the files; how many."""
    with writer(rate, seconds, logs) as process:
        return int(process.communicate()[0])


def measure(rate: int, seconds: float, files: int) -> dict[str, float]:
    with running() as service:
        idle = peak_memory(service.pid)
        logs = [make_pod(service.data, "bench", number) for number in range(files)]
        service.wait_collected(logs, 2)  # with `idle`
        client = Client(service, "bench")
        client.start()
        cpu = cpu_seconds(service.pid)
        begun = time.perf_counter()
        written = write(rate, seconds, logs)
        ended = time.perf_counter()
        client.expect(written)
        service.wait_stored("bench", written + files)
        stored = time.perf_counter()
        cpu = cpu_seconds(service.pid) - cpu
        return {
            "lines_per_s": written / (client.last - begun),
            "lines_per_cpu_s": written / cpu,
            **client.delays(),
            "tail_behind_s": client.last - ended,
            "history_behind_s": stored - ended,
            "idle_mb": idle,
            "peak_mb": peak_memory(service.pid),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="1000,10000,100000,300000")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("path")
    for rate in map(int, asked.rates.split(",")):
        runs = [measure(rate, asked.seconds, asked.files) for _ in range(asked.runs)]
        report.add(f"{rate} lines/s, {asked.files} files", median(runs))
    report.write()


if __name__ == "__main__":
    main()
