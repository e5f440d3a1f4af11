"""The bus of one machine: CPU per chunk of appending, following, catching up and opening, and what an append waits.

python -m benchmarks.bus [--chunks N] [--runs N]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

from benchmarks.loghub import cri_lines
from benchmarks.report import Report, median, percentile
from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.model import Stream

Figures = dict[str, float]


async def costing(work: Awaitable[object], chunks: int) -> Figures:
    cpu, wall = time.process_time(), time.perf_counter()
    await work
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us_per_chunk": cpu / chunks * 1e6, "chunks_per_s": chunks / wall}


async def append_all(bus: LocalBus, value: bytes, chunks: int, writers: int) -> list[float]:
    """Append from `writers` streams of 50 apps, each with one chunk unacknowledged; what each waited, seconds."""
    waits: list[float] = []

    async def write(number: int) -> None:
        stream = Stream("local", f"app-{number % 50}", "web", f"web.{number}", "app", "0")
        for _ in range(chunks // writers):
            begin = time.perf_counter()
            await bus.append(stream, value)
            waits.append(time.perf_counter() - begin)

    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            group.create_task(write(number))
    return waits


async def appending(folder: Path, value: bytes, chunks: int, writers: int) -> Figures:
    async with LocalBus.open(folder) as bus:
        waits: list[float] = []

        async def work() -> None:
            waits.extend(await append_all(bus, value, chunks, writers))

        figures = await costing(work(), chunks)
        return figures | {f"p{share}_ms": percentile(waits, share / 100) * 1e3 for share in (50, 99)}


async def following(folder: Path, value: bytes, chunks: int, settings: LocalSettings) -> Figures:
    """A live reader of all partitions, from memory or from the files."""
    async with LocalBus.open(folder, settings=settings) as bus:
        await append_all(bus, value, chunks, 200)
        reader = bus.live()
        for partition in range(bus.partitions):
            reader.watch(partition, 0)

        async def work() -> None:
            left = chunks
            while left:
                left -= sum(len(fetched.chunks) for fetched in await reader.fetch())

        return await costing(work(), chunks)


async def storing(folder: Path, value: bytes, chunks: int, settings: LocalSettings) -> Figures:
    """The group's reader, from memory or from the files."""
    async with LocalBus.open(folder, settings=settings) as bus:
        await append_all(bus, value, chunks, 200)
        reader = bus.group()

        async def work() -> None:
            left = chunks
            while left:
                left -= sum(len(fetched.chunks) for fetched in await reader.fetch(1 << 20, 1))

        return await costing(work(), chunks)


async def opening(folder: Path, value: bytes, chunks: int) -> Figures:
    async with LocalBus.open(folder) as bus:
        await append_all(bus, value, chunks, 200)

    async def work() -> None:
        async with LocalBus.open(folder):
            pass

    return await costing(work(), chunks)


def measure(runs: int, case: Callable[[Path], Awaitable[Figures]]) -> Figures:
    async def run() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return await case(Path(folder))

    return median([asyncio.run(run()) for _ in range(runs)])


def cases(value: bytes, chunks: int) -> dict[str, Callable[[Path], Awaitable[Figures]]]:
    memory, files = LocalSettings(recent_bytes=1 << 30), LocalSettings(recent_bytes=0)
    return {
        "append, 1 in flight": lambda at: appending(at, value, chunks // 10, 1),
        "append, 20 in flight": lambda at: appending(at, value, chunks, 20),
        "append, 200 in flight": lambda at: appending(at, value, chunks, 200),
        "live reader, memory": lambda at: following(at, value, chunks, memory),
        "live reader, files": lambda at: following(at, value, chunks, files),
        "group reader, memory": lambda at: storing(at, value, chunks, memory),
        "group reader, files": lambda at: storing(at, value, chunks, files),
        "open": lambda at: opening(at, value, chunks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("bus")
    lines = cri_lines(time.time_ns())
    for name, count, chunks in (("1 line", 1, asked.chunks), ("100 lines", 100, asked.chunks // 10)):
        value = b"".join(islice(lines, count))
        for case, work in cases(value, chunks).items():
            report.add(f"{case}, {name}", measure(asked.runs, work))
    report.write()


if __name__ == "__main__":
    main()
