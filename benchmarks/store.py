"""The store: chunks to rows on disk, bytes a line, and the codecs and indices that were weighed.

python -m benchmarks.store [--lines N] [--runs N] [--apps N] [--variants]

Each run inserts realistic lines of many apps into a new folder, in a process of its own, and waits for the merges.
`--variants` does it as well with other codecs, indices and granularities than the schema's (docs/adr/0003).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.loghub import LOGS
from benchmarks.report import Report, cpu_seconds, median, memory, peak_memory, percentile
from logsvc.formats import cri
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor, Filter, Origin, Stream
from logsvc.store import schema
from logsvc.store.embedded import EmbeddedStore

BATCH = 16 * 1024 * 1024
PARTITIONS = 64
PROCESSES = ("web", "web", "web", "worker", "clock")

VARIANTS: dict[str, list[tuple[str, str]]] = {
    "a file a column": [("1000000000000", "10485760")],
    "merge_selector_base 5": [("merge_selector_base = 3", "merge_selector_base = 5")],
    "message ZSTD(3)": [("message String CODEC(ZSTD(1))", "message String CODEC(ZSTD(3))")],
    "message LZ4": [("message String CODEC(ZSTD(1))", "message String CODEC(LZ4)")],
    "time DoubleDelta": [("CODEC(Delta, T64, ZSTD(1))", "CODEC(DoubleDelta, ZSTD(1))")],
    "time Delta": [("CODEC(Delta, T64, ZSTD(1))", "CODEC(Delta, ZSTD(1))")],
    "granularity 8192": [("index_granularity = 4096", "index_granularity = 8192")],
    "granularity 2048": [("index_granularity = 4096", "index_granularity = 2048")],
    "no index on time": [(",\n    INDEX times time TYPE minmax GRANULARITY 1", "")],
    "tokenbf_v1": [("INDEX times", "INDEX words message TYPE tokenbf_v1(16384, 3, 0) GRANULARITY 1,\n    INDEX times")],
    "ngrambf_v1": [
        ("INDEX times", "INDEX grams message TYPE ngrambf_v1(4, 32768, 2, 0) GRANULARITY 1,\n    INDEX times")
    ],
    "text": [("INDEX times", "INDEX words message TYPE text(tokenizer = 'splitByNonAlpha'),\n    INDEX times")],
}


def app_of(number: int) -> AppId:
    return AppId("local", f"app-{number}")


def batches(lines: int, apps: int, *, start_ns: int, seed: int = 1) -> Iterator[list[Chunk]]:
    """Batches of BATCH bytes: chunks of 30 to 300 lines, each of one of `apps` apps and of a log of its own."""
    random = Random(seed)
    logs = [path.read_bytes().split(b"\n")[:-1] for path in sorted(LOGS.glob("*.log"))]
    places = [random.randrange(2000) for _ in range(apps)]
    offsets = [0] * PARTITIONS
    now, batch, size = start_ns, [], 0
    while lines > 0:
        number = random.randrange(apps)
        count = min(lines, random.randint(30, 300))
        log, at, clock, value = logs[number % len(logs)], places[number], now, []
        for index in range(count):
            clock += random.randrange(100_000)
            stream = b"stderr" if index % 17 == 0 else b"stdout"
            value.append(cri.format_line(cri.format_time(clock), stream, log[(at + index) % len(log)]))
        places[number] += count
        app, process = app_of(number), PROCESSES[random.randrange(len(PROCESSES))]
        dyno = f"{process}.{random.randint(1, 3)}"
        stream = Stream.of(Stream(*app, process, dyno, "app", f"{number:08x}-{dyno}-0").key())
        partition = app.partition(PARTITIONS)
        text = b"".join(value)
        origin = Origin("node-1", f"{number:08x}-{dyno}/0:1234abcd", places[number] * 120, places[number] * 120 + 999)
        batch.append(Chunk(1, partition, offsets[partition], now // 1_000_000, stream, text, origin.header()))
        offsets[partition] += 1
        now += count * 50_000  # 20,000 lines a second
        lines -= count
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def repeated(sample: Sequence[list[Chunk]], lines: int) -> Iterator[tuple[list[Chunk], int]]:
    """The sample over and over at later places, with the number of lines of each batch, until `lines` are full."""
    span = max(chunk.offset for batch in sample for chunk in batch) + 1
    took = sample[-1][-1].appended - sample[0][0].appended
    for number, batch in enumerate(cycle(sample)):
        if lines <= 0:
            return
        turn = number // len(sample)
        later = [replace(c, offset=c.offset + turn * span, appended=c.appended + turn * took) for c in batch]
        count = sum(chunk.value.count(b"\n") for chunk in later)
        yield later, count
        lines -= count


async def fill(store: EmbeddedStore, lines: int, apps: int) -> dict[str, float]:
    """Insert; figures of inserting alone, merges that ran meanwhile included."""
    start = time.time_ns() - lines * 50_000
    sample = list(batches(min(lines, 1_000_000), apps, start_ns=start))
    before, cpu, busy, done = memory(), 0.0, 0.0, 0
    for batch, count in repeated(sample, lines):
        cpu_before, wall_before = cpu_seconds(), time.perf_counter()
        await store.insert(batch)
        cpu += cpu_seconds() - cpu_before
        busy += time.perf_counter() - wall_before
        done += count
    return {
        "lines": done,
        "lines_per_s": done / busy,
        "lines_per_cpu_s": done / cpu,
        "engine_peak_mb": peak_memory() - before,
        "peak_mb": peak_memory(),
    }


async def sizes(store: EmbeddedStore) -> dict[str, float]:
    """Bytes on disk of all tables, per line, and the parts of `lines`."""
    rows = "SELECT sumIf(rows, table = 'lines'), sum(bytes_on_disk), countIf(table = 'lines')"
    columns = await store._engine.query(f"{rows} FROM system.parts WHERE active AND database = 'logsvc'", {})
    lines, size, parts = (column[0] for column in columns)
    return {"bytes_per_line": size / max(lines, 1), "parts": parts}


async def settled(store: EmbeddedStore) -> None:
    """Wait until there was no merge for four seconds: the next one may be a moment away."""
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(1)
        columns = await store._engine.query("SELECT count() FROM system.merges", {})
        quiet = quiet + 1 if columns[0][0] == 0 else 0


def change_schema(edits: Sequence[tuple[str, str]]) -> None:
    """Have the store, of this process only, migrate to the schema with each edit's old text replaced."""
    (version, text), *rest = schema.migrations()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    schema.migrations = lambda: [(version, text), *rest]


async def page_ms(store: EmbeddedStore, apps: int, wanted: Callable[[int], Filter]) -> float:
    """Median of the last 100 lines that pass, of random apps."""
    random, took = Random(7), []
    for number in range(60):
        app = app_of(random.randrange(apps))
        begun = time.perf_counter()
        await store.before(app, Cursor(1, app.partition(PARTITIONS), 1 << 50, 0), wanted(number), 100)
        took.append((time.perf_counter() - begun) * 1000)
    return percentile(took, 0.5)


async def one_run(folder: Path, lines: int, apps: int) -> dict[str, float]:
    store = await EmbeddedStore.open(folder)
    try:
        figures = await fill(store, lines, apps)
        cpu = cpu_seconds()
        await settled(store)
        figures |= {"merge_after_cpu_s": cpu_seconds() - cpu, **await sizes(store)}
        figures["last_100_ms"] = await page_ms(store, apps, lambda _: EVERYTHING)
        figures["rare_word_ms"] = await page_ms(store, apps, lambda number: Filter(grep=(f"rare{number}word",)))
        return figures
    finally:
        await store.close()


def run_apart(*arguments: str) -> Any:
    """A module in a process of its own; what it prints is the figures, as JSON."""
    return json.loads(subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--apps", type=int, default=500)
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--variant", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        change_schema(VARIANTS.get(options.variant, []))
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(one_run(Path(folder), options.lines, options.apps))))
        return
    report = Report("store")
    for variant in ("", *(VARIANTS if options.variants else ())):
        arguments = (
            "benchmarks.store",
            "--child",
            "--lines",
            str(options.lines),
            "--apps",
            str(options.apps),
            "--variant",
            variant,
        )
        report.add(variant or "insert", median([run_apart(*arguments) for _ in range(options.runs)]))
    report.write()


if __name__ == "__main__":
    main()
