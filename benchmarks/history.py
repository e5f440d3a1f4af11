"""History: what a page of an app costs when many lines of many apps are stored, in the store and over HTTP's back.

python -m benchmarks.history [--lines 1000000,20000000] [--apps N] [--queries N] [--keep FOLDER]

Each size is filled in a process of its own, and queried by the same process after the merges, and again while it
inserts at full speed. `--keep` leaves the folders there and uses them again.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks.report import Report, cpu_seconds, memory, peak_memory, percentile
from benchmarks.store import PARTITIONS, app_of, batches, fill, repeated, run_apart, settled, sizes
from logsvc.model import EVERYTHING, AppId, Cursor, Filter
from logsvc.store.embedded import EmbeddedStore

Query = Callable[[AppId, Random], Awaitable[object]]


def queries(store: EmbeddedStore) -> dict[str, Query]:
    def last(lines: int, wanted: Callable[[Random], Filter]) -> Query:
        return lambda app, random: store.before(app, end_of(app), wanted(random), lines)

    return {
        "last 100": last(100, lambda _: EVERYTHING),
        "last 100 of a process": last(100, lambda _: Filter(process=frozenset({"worker"}))),
        # A word that nobody has asked for yet: the engine remembers which blocks hold no match.
        "grep of a rare word": last(100, lambda random: Filter(grep=(f"rare{random.randrange(1 << 40):x}",))),
        "the same, folding case": last(
            100, lambda random: Filter(grep=(f"rare{random.randrange(1 << 40):x}",), ignore_case=True)
        ),
        "last 1000": last(1000, lambda _: EVERYTHING),
        "5000 forward": lambda app, _: store.after(
            app, Cursor(1, app.partition(PARTITIONS), 0, -1), 1 << 50, EVERYTHING, 5000
        ),
        "volume by second": lambda app, _: store.volume(app, end_of(app), EVERYTHING, 1_000_000_000),
    }


def end_of(app: AppId) -> Cursor:
    return Cursor(1, app.partition(PARTITIONS), 1 << 50, 0)


async def ask(query: Query, apps: int, times: int) -> dict[str, float]:
    """Milliseconds of a query for random apps, one at a time."""
    random, took = Random(7), []
    for _ in range(10):
        await query(app_of(random.randrange(apps)), random)
    cpu = cpu_seconds()
    for _ in range(times):
        app = app_of(random.randrange(apps))
        begun = time.perf_counter()
        await query(app, random)
        took.append((time.perf_counter() - begun) * 1000)
    cpu = cpu_seconds() - cpu
    return {"p50_ms": percentile(took, 0.5), "p99_ms": percentile(took, 0.99), "cpu_ms": cpu / times * 1000}


async def loop_lag(worst: list[float]) -> None:
    """Note by how many ms the event loop is late, for ever."""
    while True:
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        worst.append((time.perf_counter() - due) * 1000)


async def while_inserting(store: EmbeddedStore, apps: int, times: int) -> dict[str, float]:
    """The last 100 lines while another task inserts at full speed, and how late the event loop was meanwhile."""
    sample = list(batches(500_000, apps, start_ns=time.time_ns(), seed=2))
    lags: list[float] = []

    async def insert_for_ever() -> None:
        for batch, _ in repeated(sample, 1 << 60):
            await store.insert(batch)

    tasks = [asyncio.create_task(insert_for_ever()), asyncio.create_task(loop_lag(lags))]
    try:
        figures = await ask(queries(store)["last 100"], apps, times)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    return {**figures, "loop_lag_p99_ms": percentile(lags, 0.99)}


async def one_size(folder: Path, lines: int, apps: int, times: int) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    store = await EmbeddedStore.open(folder)
    used = (await sizes(store))["parts"] > 0
    try:
        if not used:
            rows["fill"] = await fill(store, lines, apps)
            await settled(store)
        rows["stored"] = {**await sizes(store), "memory_mb": memory()}
        for name, query in queries(store).items():
            rows[name] = await ask(query, apps, times)
        if not used:
            rows["last 100 while inserting"] = await while_inserting(store, apps, times)
        rows["after"] = {"memory_mb": memory(), "peak_mb": peak_memory()}
        return rows
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", default="1000000,20000000")
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        figures = asyncio.run(one_size(options.child, int(options.lines), options.apps, options.queries))
        print(json.dumps(figures))
        return
    report = Report("history")
    with tempfile.TemporaryDirectory() as temporary:
        for lines in options.lines.split(","):
            folder = (options.keep or Path(temporary)) / lines
            arguments = ("--lines", lines, "--apps", str(options.apps), "--queries", str(options.queries))
            for name, figures in run_apart("benchmarks.history", "--child", str(folder), *arguments).items():
                report.add(f"{int(lines):,}: {name}", figures)
    report.write()


if __name__ == "__main__":
    main()
