"""The store on a ClickHouse server: batches through HTTP, with and without compression, one or more at once.

python -m benchmarks.store_server [--lines N] [--runs N] [--apps N] [--inserts N]

The server is the engine behind HTTP (tests/support/clickhouse.py), in a process and a folder of its own for each run.
It reads what it is sent into a file first, as the engine in a process takes it; a real server does without.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Report, cpu_seconds, median, peak_memory
from benchmarks.store import batches, repeated, run_apart
from logsvc.config import ClickHouse as Settings
from logsvc.model import Chunk
from logsvc.store.server import ServerStore
from tests.support.clickhouse import ClickHouse


async def insert_all(store: ServerStore, work: Iterator[tuple[list[Chunk], int]]) -> int:
    """Insert batch after batch, which others take from as well; returns the number of lines."""
    done = 0
    for batch, count in work:
        await store.insert(batch)
        done += count
    return done


async def one_run(folder: Path, lines: int, apps: int, inserts: int, *, compress: bool) -> dict[str, float]:
    async with ClickHouse(folder) as clickhouse:
        store = ServerStore(Settings(urls=[clickhouse.url], compress=compress))
        await store.migrate()
        sample = list(batches(min(lines, 1_000_000), apps, start_ns=time.time_ns() - lines * 50_000))
        client, server, begun = cpu_seconds(), cpu_seconds(clickhouse.pid), time.perf_counter()
        work = repeated(sample, lines)
        done = sum(await asyncio.gather(*(insert_all(store, work) for _ in range(inserts))))
        busy = time.perf_counter() - begun
        client, server = cpu_seconds() - client, cpu_seconds(clickhouse.pid) - server
        figures = {
            "lines": done,
            "lines_per_s": done / busy,
            "lines_per_client_cpu_s": done / client,
            "lines_per_server_cpu_s": done / server,
            "client_peak_mb": peak_memory(),
            "server_peak_mb": peak_memory(clickhouse.pid),
        }
        await store.close()
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=4_000_000)
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--inserts", type=int, default=2)
    parser.add_argument("--child", choices=["zstd", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        with tempfile.TemporaryDirectory(prefix="logsvc-store-") as folder:
            compress = options.child == "zstd"
            run = one_run(Path(folder), options.lines, options.apps, options.inserts, compress=compress)
            figures = asyncio.run(run)
        print(json.dumps(figures))
        return
    report = Report("store_server")
    sizes = ("--lines", str(options.lines), "--apps", str(options.apps))
    for case in ("zstd", "plain"):
        for inserts in (1, options.inserts):
            arguments = ("benchmarks.store_server", "--child", case, "--inserts", str(inserts), *sizes)
            report.add(f"{case}, {inserts} at once", median([run_apart(*arguments) for _ in range(options.runs)]))
    report.write()


if __name__ == "__main__":
    main()
