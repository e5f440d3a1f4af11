"""`paas logs` into a pipe: lines per CPU-second of the program, its start left out, and how fast it starts.

    python -m benchmarks.cli [--lines N] [--runs N]

The service is a socket that sends one canned answer, framed by the service's own code.
"""

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from benchmarks.loghub import cri_lines
from benchmarks.report import Report, median, peak_memory
from logsvc.formats.representations import ServerSentEvents
from logsvc.model import Chunk, Selection, Stream

PAAS = str(Path(sys.executable).parent / "paas")
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nLogsvc-Cursor: 1.0.0.-1\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
CASES = {
    "text, 100 lines an event": (100, 1, []),
    "text, 1000 lines an event": (1000, 1, []),
    "text, 1 line an event": (1, 1, []),
    "text, 1 line an event, 100 at once": (1, 100, []),
    "text in a time zone": (100, 1, ["--tz", "Europe/Berlin"]),
    "JSON": (100, 1, ["--json"]),
    "coloured": (100, 1, ["--force-colors"]),
}
"""Lines an event, events sent at once, flags."""


def answer(lines: int, per_event: int, at_once: int = 1) -> bytes:
    """A complete answer: `at_once` events are an HTTP chunk."""
    frames = []
    source = cri_lines(time.time_ns())
    framing = ServerSentEvents()
    for number in range(lines // per_event):
        value = b"".join(islice(source, per_event))
        stream = Stream("local", "demo", "web", f"web.{number % 4 + 1}", "app", "0")
        chunk = Chunk(1, 0, number, 0, stream, value)
        frames.append(framing.lines([Selection(chunk, value, range(per_event))]))
    frames = [b"".join(frames[at : at + at_once]) for at in range(0, len(frames), at_once)]
    frames.append(framing.end())
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"


@contextmanager
def serving(said: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def reading(url: str, lines: int, arguments: list[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory (MB) of one `paas logs`."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [PAAS, "logs", "-a", "demo", "-n", str(lines), *arguments],
        env=os.environ | {"PAAS_URL": url},
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    got, peak = 0, 0.0
    while data := os.read(process.stdout.fileno(), 1 << 20):
        got += data.count(b"\n")
        with suppress(LookupError):  # it may have ended by now
            peak = max(peak, peak_memory(process.pid))
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, got) == (0, lines)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begin, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = Report("cli")
    with serving(answer(1, 1)) as url:
        starts = [reading(url, 1, []) for _ in range(max(5, options.runs))]
        start = median([{"cpu_s": cpu, "wall_s": wall, "peak_mb": peak} for cpu, wall, peak in starts])
    report.add("start, one line", start)
    for case, (per_event, at_once, arguments) in CASES.items():
        with serving(answer(options.lines, per_event, at_once)) as url:
            runs = []
            for _ in range(options.runs):
                cpu, wall, peak = reading(url, options.lines, arguments)
                per_cpu = options.lines / max(cpu - start["cpu_s"], 1e-9)
                runs.append({"lines_per_cpu_s": per_cpu, "lines_per_s": options.lines / wall, "peak_mb": peak})
        report.add(case, median(runs))
    report.write()


if __name__ == "__main__":
    main()
