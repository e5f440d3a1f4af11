"""Many tails of one app: delivered lines per CPU-second of the service, and whether each tail got every line.

    python -m benchmarks.fanout [--cases 1000x1000,10000x20] [--seconds N] [--runs N]

A case is TAILSxRATE, the rate in lines per second of the app. Tails are read by a process of its own.
"""

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from urllib.parse import urlsplit

import uvloop

from benchmarks.path import request_for, write
from benchmarks.report import Report, cpu_seconds, median, memory, peak_memory
from benchmarks.service import make_pod, running

_SEQUENCE = re.compile(rb"seq=(\d+) ")


class Tail(asyncio.Protocol):
    """Counts the lines of one answer; checks the sequence where `checked`."""

    def __init__(self, request: bytes, *, checked: bool) -> None:
        self.lines = 0
        self.faults = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._checked = request, checked
        self._rest = b""
        self._next = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]  # a TCP transport writes

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        # a mark may be cut in two by the end of a read
        data = self._rest + data
        self._rest = data[-6:]
        self.lines += data.count(b"\ndata: ") - self._rest.count(b"\ndata: ")
        if self._checked:
            self._check(data)

    def _check(self, data: bytes) -> None:
        for number in _SEQUENCE.findall(data):
            self.faults += int(number) > self._next
            self._next = max(self._next, int(number) + 1)


async def read_tails(url: str, count: int, expected: int) -> None:
    """Open the tails, say so, wait until each has `expected` lines (or none gets any for 10 s), print what they got."""
    address = urlsplit(url)
    request = request_for(address.netloc, "bench", "tail=1&num=0")
    loop = asyncio.get_running_loop()
    tails = []
    for start in range(0, count, 200):
        opening = [
            loop.create_connection(lambda: Tail(request, checked=False), address.hostname, address.port)
            for _ in range(start, min(start + 200, count))
        ]
        made = [protocol for _, protocol in await asyncio.gather(*opening)]
        await asyncio.gather(*(tail.opened for tail in made))
        tails += made
    print("open", flush=True)
    last, since = -1, time.perf_counter()
    while (total := sum(tail.lines for tail in tails)) < expected * count and time.perf_counter() - since < 10:
        if total != last:
            last, since = total, time.perf_counter()
        await asyncio.sleep(0.05)
    print(json.dumps({"lines": total, "least": min(t.lines for t in tails), "most": max(t.lines for t in tails)}))


def measure(tails: int, rate: int, seconds: float) -> dict[str, float]:
    with running() as service:
        log = make_pod(service.data, "bench", 0)
        service.wait_collected([log], 2)  # with `idle`
        before = memory(service.pid)
        expected = int(rate * seconds)
        command = [sys.executable, "-m", "benchmarks.fanout", "--read", service.url, str(tails), str(expected)]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        opened = memory(service.pid)
        cpu = cpu_seconds(service.pid)
        write(rate, seconds, [log])
        got = json.loads(reader.stdout.readline())
        cpu = cpu_seconds(service.pid) - cpu
        reader.wait()
        assert got["least"] == got["most"] == expected, f"of {expected} lines tails got {got}"
        return {
            "delivered_per_cpu_s": got["lines"] / cpu,
            "cpu_s": cpu,
            "kb_a_tail": (opened - before) * 1024 / tails,
            "peak_mb": peak_memory(service.pid),
        }


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        uvloop.run(read_tails(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="1x1000,100x1000,1000x1000,10000x20")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("fanout")
    for case in asked.cases.split(","):
        tails, rate = map(int, case.split("x"))
        runs = [measure(tails, rate, asked.seconds) for _ in range(asked.runs)]
        report.add(f"{tails} tails of {rate} lines/s", median(runs))
    report.write()


if __name__ == "__main__":
    main()
