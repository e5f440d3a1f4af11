"""The bus of several machines, against a real Apache Kafka: lines per CPU-second of the process that does the work.

    python -m benchmarks.kafka [--lines N] [--rate N] [--seconds N] [--runs N]

Kafka runs beside it, on the same cores, and is not counted but shown.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import uvloop

from benchmarks.collect import Identity, Meter, make_files
from benchmarks.loghub import cri_lines
from benchmarks.report import Report, cpu_seconds, median, percentile
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.config import Kafka
from logsvc.model import AppId, Stream
from logsvc.router import Router
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from tests.support.kafka import Cluster, cluster
from tests.support.wait import until

Figures = dict[str, float]
PARTITIONS = 64
APPS = 1_000
LINES = 100
"""Lines a chunk, where chunks are made here."""


@asynccontextmanager
async def collecting(folder: Path, settings: Kafka) -> AsyncIterator[FilesSource]:
    async with KafkaBus.open(settings) as bus:
        source = FilesSource(FilesSettings(folder / "pods", folder / "collector", "bench"), bus, Identity())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.run())
            yield source
            source.stop()


class Beside:
    """CPU-seconds of the broker."""

    def __init__(self, kafka: Cluster) -> None:
        self._kafka = kafka
        self._began = self._seconds()

    def _seconds(self) -> float:
        return sum(cpu_seconds(broker.pid) for broker in self._kafka.brokers)

    def figures(self) -> Figures:
        return {"kafka_cpu_s": self._seconds() - self._began}


async def backlog(folder: Path, kafka: Cluster, lines: int) -> Figures:
    """Read 20 files that are there already; done when Kafka has acknowledged all."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    make_files(folder / "pods", 20, lines // 20)
    beside = Beside(kafka)
    async with collecting(folder, settings) as source:
        meter = Meter(source)
        await source.drained()
        return meter.figures(lines // 20 * 20) | beside.figures()


async def live(folder: Path, kafka: Cluster, rate: int, seconds: int) -> Figures:
    """Follow 20 files while another process writes to them."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    paths = make_files(folder / "pods", 20, 1)
    command = [sys.executable, "-m", "benchmarks.collect", "--write", str(rate), str(seconds), *map(str, paths)]
    async with collecting(folder, settings) as source:
        await source.drained()
        meter = Meter(source)
        writer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await writer.communicate()
        await source.drained()
        return meter.figures(int(out))


async def fill(bus: KafkaBus, lines: int, apps: Sequence[int] = range(APPS)) -> None:
    """Chunks of the apps, in turn, 200 under way at a time."""
    made = cri_lines(time.time_ns())
    values = [b"".join(islice(made, LINES)) for _ in range(100)]
    numbers = iter(range(lines // LINES))

    async def write() -> None:
        for number in numbers:
            app = apps[number % len(apps)]
            await bus.append(Stream("local", f"app-{app}", "web", "web.1", "app", "0"), values[number % 100])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(200):
            tasks.create_task(write())


async def costing(work: Callable[[], Coroutine[None, None, int]]) -> Figures:
    """`work` says how many chunks it has seen."""
    cpu, wall = time.process_time(), time.perf_counter()
    chunks = await work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"lines_per_cpu_s": chunks * LINES / cpu, "lines_per_s": chunks * LINES / wall, "chunks": chunks}


async def watching(bus: KafkaBus, partitions: range) -> int:
    """The router's reader, over some partitions from their start to their end."""
    ends = {p: (await bus.bounds(p)).end for p in partitions}
    reader = bus.live()
    for partition in partitions:
        reader.watch(partition, 0)
    chunks = 0
    while ends:
        for fetched in await reader.fetch():
            chunks += len(fetched.chunks)
            if fetched.next >= ends.get(fetched.partition, 1 << 62):
                del ends[fetched.partition]
    await reader.close()
    return chunks


async def routing(bus: KafkaBus, app: AppId) -> int:
    """The router, with one app watched, over all of its partition."""
    partition = app.partition(PARTITIONS)
    end = (await bus.bounds(partition)).end
    router = Router(bus, window_bytes=64 << 20, cold_lag=1e9)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(router.run())
        async with router.watch(app):
            window = router.window(partition)
            assert window is not None
            await until(lambda: window.next >= end, 60)
        running.cancel()
    await router.close()
    return end


async def storing(bus: KafkaBus) -> int:
    """The store's reader, over everything."""
    left = sum([(await bus.bounds(p)).end for p in range(bus.partitions)])
    reader = bus.group()
    chunks = 0
    while left > chunks:
        for fetched in await reader.fetch(4 << 20, 1.0):
            chunks += len(fetched.chunks)
    await reader.close()
    return chunks


async def catching_up(bus: KafkaBus, partition: int) -> int:
    """Read a partition as one who has fallen behind does."""
    at, end = await bus.bounds(partition)
    chunks = 0
    while at < end:
        fetched = await bus.read(partition, at, 1 << 20)
        chunks, at = chunks + len(fetched.chunks), fetched.next
    return chunks


async def consuming(kafka: Cluster, lines: int) -> dict[str, Figures]:
    """Lines of all apps, and then lines of those alone that are in the partition of the one that is watched."""
    settings, alone = kafka.settings(), kafka.settings()
    await migrate(settings, PARTITIONS)
    await migrate(alone, PARTITIONS)
    app = AppId("local", "app-7")
    one = app.partition(PARTITIONS)
    beside = [number for number in range(APPS) if AppId("local", f"app-{number}").partition(PARTITIONS) == one]
    figures = {}
    async with KafkaBus.open(settings) as bus:
        await fill(bus, lines)
        figures["watch all"] = await costing(lambda: watching(bus, range(PARTITIONS)))
        figures["the store's reader"] = await costing(lambda: storing(bus))
    async with KafkaBus.open(alone) as bus:
        await fill(bus, lines, beside)
        figures[f"router, one of {APPS} apps watched"] = await costing(lambda: routing(bus, app))
        figures["catch up"] = await costing(lambda: catching_up(bus, one))
    return figures


async def cold(kafka: Cluster, rounds: int) -> Figures:
    """From `watch` of a partition that nobody watched to its first chunk, while another is busy."""
    settings = kafka.settings()
    await migrate(settings, PARTITIONS)
    async with KafkaBus.open(settings) as bus:
        await fill(bus, APPS * LINES)
        reader = bus.live()
        waits = []
        for number in range(rounds):
            partition = number % PARTITIONS
            began = time.perf_counter()
            reader.watch(partition, 0)
            while all(fetched.partition != partition for fetched in await reader.fetch()):
                pass
            waits.append(time.perf_counter() - began)
            if number % 2:
                reader.unwatch(partition)
        return {f"p{share}_ms": percentile(waits, share / 100) * 1e3 for share in (50, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("kafka")

    def measure(work: Callable[[Path], Coroutine[None, None, Figures]]) -> Figures:
        def run() -> Figures:
            with tempfile.TemporaryDirectory() as folder:
                return uvloop.run(work(Path(folder)))

        return median([run() for _ in range(asked.runs)])

    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder) / "kafka") as kafka:
        report.add("collect a backlog of 20 files", measure(lambda at: backlog(at, kafka, asked.lines)))
        report.add(f"collect {asked.rate} lines/s", measure(lambda at: live(at, kafka, asked.rate, asked.seconds)))
        runs = [uvloop.run(consuming(kafka, asked.lines)) for _ in range(asked.runs)]
        for case in runs[0]:
            report.add(case, median([run[case] for run in runs]))
        report.add("first chunk of a cold partition", measure(lambda _: cold(kafka, 200)))
    report.write()


if __name__ == "__main__":
    main()
