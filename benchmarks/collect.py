"""Collecting: files of containers to the bus of one machine, lines per CPU-second of the process that does it.

    python -m benchmarks.collect [--lines N] [--rate N] [--seconds N] [--runs N]

Memory is that of a process of its own, the bus in it included. `beside a flood`: the time from the write of a line
until the bus has it, of quiet files while one more is written to faster than it can be read.
The files are written before (backlog) or by a process of its own at `--rate` lines per second (live).
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from benchmarks.loghub import cri_lines
from benchmarks.report import Report, peak_memory, percentile, repeated
from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.config import Redact
from logsvc.formats import cri
from logsvc.model import Stream
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.redaction import redaction

Figures = dict[str, float]

QUIET = b"from a quiet file"


class Identity:
    """Ten containers to an app."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | None:
        stream = self._streams.get(uid)
        if stream is None:
            app = f"app-{int(uid[1:]) // 10}"
            stream = self._streams[uid] = Stream(namespace, app, container, pod, "app", f"{uid}-{restart}")
        return stream

    def folder(self, uid: str) -> Pod | None:  # noqa: ARG002 - no pod is deleted here
        return None


def make_files(root: Path, files: int, lines: int) -> list[Path]:
    """`files` logs of `lines` lines each."""
    text = b"".join(islice(cri_lines(time.time_ns()), lines))
    paths = []
    for number in range(files):
        folder = root / f"bench_web-{number}_u{number}" / "web"
        folder.mkdir(parents=True)
        paths.append(folder / "0.log")
        paths[-1].write_bytes(text)
    return paths


@asynccontextmanager
async def collecting(folder: Path, *rules: str) -> AsyncIterator[FilesSource]:
    """A source at work on `folder`, with so many rules of redaction."""
    settings = LocalSettings(max_bytes=8 << 30)
    async with LocalBus.open(folder / "bus", settings=settings) as bus:
        files = FilesSettings(folder / "pods", folder / "collector", "bench")
        source = FilesSource(files, bus, Identity(), redact=redaction(Redact(everywhere=list(rules))))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.run())
            yield source
            source.stop()


class Meter:
    """Figures of what a source does from here on."""

    def __init__(self, source: FilesSource) -> None:
        self._source = source
        self._chunks, self._bytes = source.collector.chunks, source.collector.bytes
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def figures(self, lines: int) -> Figures:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        chunks, size = self._source.collector.chunks - self._chunks, self._source.collector.bytes - self._bytes
        return {
            "lines_per_cpu_s": lines / cpu,
            "lines_per_s": lines / wall,
            "us_per_line": cpu / lines * 1e6,
            "lines_per_chunk": lines / chunks,
            "bytes_per_line": size / lines,
        }


async def backlog(folder: Path, files: int, lines: int, *rules: str) -> Figures:
    """Read files that are there already."""
    make_files(folder / "pods", files, lines // files)
    async with collecting(folder, *rules) as source:
        meter = Meter(source)
        await source.drained()
        return meter.figures(lines // files * files)


async def live(folder: Path, files: int, writing: int, rate: int, seconds: int) -> Figures:
    """Follow `writing` of `files` files while another process writes to them."""
    paths = make_files(folder / "pods", files, 1)[:writing]
    command = [sys.executable, "-m", "benchmarks.collect", "--write", str(rate), str(seconds), *map(str, paths)]
    async with collecting(folder) as source:
        await source.drained()
        meter = Meter(source)
        writer = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await writer.communicate()
        await source.drained()
        return meter.figures(int(out))


async def idle(folder: Path, files: int, seconds: int) -> Figures:
    """Watch files that nobody writes to, after the first rush."""
    make_files(folder / "pods", files, 1)
    async with collecting(folder) as source:
        await source.drained()
        await asyncio.sleep(1)
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        return {"percent_of_a_core": (time.process_time() - cpu) / seconds * 100}


async def beside_a_flood(folder: Path, files: int, rate: int, seconds: int) -> Figures:
    """Write ten lines a second to each of `files` files, and `rate` to another."""
    *quiet, flood = make_files(folder / "pods", files + 1, 1)
    command = [sys.executable, "-m", "benchmarks.collect", "--write", str(rate), str(seconds), str(flood)]
    async with collecting(folder) as source:
        await source.drained()
        writer = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        begin = time.time()
        for number in range(seconds * 10):
            # When it should be written: what holds this loop up counts as well.
            at = begin + number / 10
            await asyncio.sleep(max(0, at - time.time()))
            for path in quiet:
                with path.open("ab") as file:
                    file.write(cri.format_line(cri.format_time(int(at * 1e9)), b"stdout", QUIET))
        out, _ = await writer.communicate()
        behind = source.lanes[flood.parent.parent.name, flood.parent.name].series.waiting()
        await source.drained()
        delays = [delay async for delay in quiet_delays(source.collector._bus)]
    assert len(delays) == seconds * 10 * files
    waits = {f"p{share}_ms": percentile(delays, share / 100) * 1000 for share in (50, 99)}
    return {**waits, "most_ms": max(delays) * 1000, "flood_lines": int(out), "flood_behind_mb": behind / 1e6}


async def quiet_delays(bus: LocalBus) -> AsyncIterator[float]:
    """Of each line of a quiet file, from its write to the bus."""
    for partition in range(bus.partitions):
        at, end = (await bus.bounds(partition)).start, (await bus.bounds(partition)).end
        while at < end:
            _, chunks, at = await bus.read(partition, at, 1 << 22)
            for chunk in chunks:
                if QUIET not in chunk.value:
                    continue
                for written, _, _, message in map(cri.parse, cri.lines(chunk.value)):
                    if message == QUIET:
                        yield chunk.appended / 1000 - cri.time_ns(written) / 1e9


def most_memory(files: int, rate: int, seconds: int) -> Figures:
    """Most memory of a process that follows so many files, 20 of them written to."""
    command = [sys.executable, "-m", "benchmarks.collect", "--memory", *map(str, (files, rate, seconds))]
    return {"mb": float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)}


def write(rate: int, seconds: int, paths: list[str]) -> None:
    """Append lines to all files in turn, a hundredth of a second's worth at a time; print how many."""
    lines = cri_lines(time.time_ns())
    share = max(rate // 100 // len(paths), 1)
    blocks = [b"".join(islice(lines, share)) for _ in range(20)]
    files = [Path(path).open("ab", buffering=0) for path in paths]  # noqa: SIM115 - as long as the process
    begin = time.monotonic()
    for number in range(seconds * 100):
        for file in files:
            file.write(blocks[number % 20])
        time.sleep(max(0, begin + (number + 1) / 100 - time.monotonic()))
    print(seconds * 100 * share * len(paths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=3, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        files, rate, seconds = asked.memory
        repeated(1, lambda at: live(at, files, 20, rate, seconds))
        print(peak_memory())
        return
    if asked.write:
        write(int(asked.write[0]), int(asked.write[1]), asked.write[2:])
        return
    report = Report("collect")
    report.add("backlog of 20 files", repeated(asked.runs, lambda at: backlog(at, 20, asked.lines)))
    for rules in (("token",), ("email",), ("card",), ("token", "email", "card")):
        case = f"the same without each {', '.join(rules)}"
        report.add(case, repeated(asked.runs, lambda at, rules=rules: backlog(at, 20, asked.lines, *rules)))
    for files in (20, 1000):
        case = f"{asked.rate} lines/s into 20 of {files} files"
        report.add(case, repeated(asked.runs, lambda at, files=files: live(at, files, 20, asked.rate, asked.seconds)))
    for files in (2_000, 10_000):
        report.add(f"{files} idle files", repeated(1, lambda at, files=files: idle(at, files, 20)))
    flood = repeated(asked.runs, lambda at: beside_a_flood(at, 20, 2_000_000, asked.seconds))
    report.add("20 quiet files beside a flood", flood)
    report.add("memory with 1000 files", most_memory(1000, asked.rate, asked.seconds))
    report.write()


if __name__ == "__main__":
    main()
