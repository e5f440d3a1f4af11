"""The store on a ClickHouse server: batches through HTTP, with and without compression.

python -m benchmarks.store_server [--lines N] [--runs N] [--apps N]

The server is the engine behind HTTP (tests/support/clickhouse.py), in a process and a folder of its own for each run.
It reads what it is sent into a file first, as the engine in a process takes it; a real server does without.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report, cpu_seconds, median, peak_memory
from benchmarks.store import batches, repeated, run_apart
from logsvc.config import ClickHouse as Settings
from logsvc.store.server import ServerStore
from tests.support.clickhouse import ClickHouse


async def one_run(folder: Path, lines: int, apps: int, *, compress: bool) -> dict[str, float]:
    async with ClickHouse(folder) as clickhouse:
        store = ServerStore(Settings(urls=[clickhouse.url], compress=compress))
        await store.migrate()
        sample = list(batches(min(lines, 1_000_000), apps, start_ns=time.time_ns() - lines * 50_000))
        client, server, busy, done = cpu_seconds(), cpu_seconds(clickhouse.pid), 0.0, 0
        longest = 0.0
        for batch, count in repeated(sample, lines):
            begun = time.perf_counter()
            await store.insert(batch)
            longest = max(longest, time.perf_counter() - begun)
            busy += time.perf_counter() - begun
            done += count
        client, server = cpu_seconds() - client, cpu_seconds(clickhouse.pid) - server
        figures = {
            "lines": done,
            "lines_per_s": done / busy,
            "lines_per_client_cpu_s": done / client,
            "lines_per_server_cpu_s": done / server,
            "longest_insert_s": longest,
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
    parser.add_argument("--child", choices=["zstd", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        with tempfile.TemporaryDirectory(prefix="logsvc-store-") as folder:
            compress = options.child == "zstd"
            figures = asyncio.run(one_run(Path(folder), options.lines, options.apps, compress=compress))
        print(json.dumps(figures))
        return
    report = Report("store_server")
    sizes = ("--lines", str(options.lines), "--apps", str(options.apps))
    for case in ("zstd", "plain"):
        arguments = ("benchmarks.store_server", "--child", case, *sizes)
        report.add(case, median([run_apart(*arguments) for _ in range(options.runs)]))
    report.write()


if __name__ == "__main__":
    main()
