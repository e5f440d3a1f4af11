"""The Procfile runner: from a process's pipe to rotated, compressed CRI files.

    python -m benchmarks.procfile [--lines N] [--runs N]

`bulk` is `cat` of loghub text, `unbuffered` a process that writes 10,000 lines a second one by one. CPU is this
process's, compression included; `lag` is how late the event loop was for somebody else.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.report import Report, median, percentile
from logsvc.sources.procfile import ProcfileRunner, RunnerSettings
from logsvc.sources.procfile.parse import Entry
from tests.support import loghub

PACE = 10_000
UNBUFFERED = """exec python -c '
import sys, time
began = time.perf_counter()
for number in range({lines}):
    time.sleep(max(0, began + number / {pace} - time.perf_counter()))
    sys.stdout.write("x" * 120 + "\\n")
    sys.stdout.flush()
'"""


async def once(command: str, lines: int, folder: Path, rotate_bytes: int) -> dict[str, float]:
    ended = asyncio.Event()
    late: list[float] = []

    async def feel() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            late.append(time.perf_counter() - began - 0.005)

    settings = RunnerSettings(
        pods=folder / "pods",
        identities=folder / "identity",
        tenant="local",
        app="demo",
        rotate_bytes=rotate_bytes,
        backoff_first=60,
    )
    runner = ProcfileRunner(
        [Entry("web", command)],
        settings,
        directory=folder,
        on_event=lambda event: ended.set() if "exited" in event.message else None,
    )
    cpu, wall = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run())
        tasks.create_task(feel())
        await ended.wait()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        await runner.stop()
    return {
        "lines_per_s": lines / wall,
        "lines_per_cpu_s": lines / cpu,
        "lag_p99_ms": percentile(late, 0.99) * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    report = Report("procfile")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = b"".join(line + b"\n" for line in loghub())
        lines = len(loghub())
        copies = max(1, asked.lines // lines)
        (folder / "text").write_bytes(text * copies)
        slow = asked.lines // 50
        cases = {
            "bulk": ("exec cat text", lines * copies, 10 << 20),
            "bulk, never rotated": ("exec cat text", lines * copies, 1 << 40),
            "unbuffered, 10,000 lines/s": (UNBUFFERED.format(lines=slow, pace=PACE), slow, 10 << 20),
        }
        for case, (command, written, rotate_bytes) in cases.items():
            runs = []
            for number in range(asked.runs):
                place = folder / f"{len(report.rows)}.{number}"
                place.mkdir()
                (place / "text").symlink_to(folder / "text")
                runs.append(uvloop.run(once(command, written, place, rotate_bytes)))
            report.add(case, median(runs))
    report.write()


if __name__ == "__main__":
    main()
