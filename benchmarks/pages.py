"""History over HTTP: the last 100 lines of an app, out of what `benchmarks.history --keep FOLDER` has stored.

    python -m benchmarks.pages FOLDER/20000000 [--apps N] [--queries N]

The API, on the real store, in a process of its own; the client asks one question at a time on one connection.
"""

import argparse
import asyncio
import http.client
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.report import Report, cpu_seconds, memory, percentile
from benchmarks.store import PARTITIONS, app_of
from logsvc.api.context import Context
from logsvc.api.server import listening
from logsvc.bus.local import LocalBus
from logsvc.bus.sealed import Stored
from logsvc.config import Settings
from logsvc.drains.local import LocalDrains
from logsvc.router import Router
from logsvc.service.drains import drains_of
from logsvc.service.purging import LocalPurges
from logsvc.sources.push import PushSource
from logsvc.store.embedded import EmbeddedStore
from logsvc.timeline import Epoch, Tiers

QUERIES = {
    "last 100": "num=100",
    "last 100 of a process": "num=100&process=worker",
    "grep of a rare word": "num=100&grep=rare{word:x}",
}


async def serve(folder: Path) -> None:
    """Everything is in the store: its epoch is over, and the one that follows is empty."""
    store = await EmbeddedStore.open(folder)
    with TemporaryDirectory() as temporary:
        async with (
            LocalBus.open(Path(temporary), partitions=PARTITIONS) as bus,
            LocalDrains.open(Path(temporary)) as kept,
            drains_of(Settings(), kept) as drains,
        ):
            bus.epoch = 2
            older = Epoch(Stored(1, dict.fromkeys(range(PARTITIONS), 1 << 50)), None)
            tiers = Tiers(bus, store, Router(bus, window_bytes=1 << 20), [older])
            removing = LocalPurges(bus, Path(temporary) / "purges")
            context = Context(tiers, PushSource(bus, store), removing.remove, drains)
            async with listening(context, "127.0.0.1", 0, 1.0) as url:
                print(url, flush=True)
                await asyncio.to_thread(sys.stdin.read)
    await store.close()


def ask(connection: http.client.HTTPConnection, query: str, apps: int, times: int, pid: int) -> dict[str, float]:
    random, took = Random(7), []
    cpu = 0.0
    for number in range(times + 10):
        if number == 10:
            cpu, took = cpu_seconds(pid), []
        app, word = app_of(random.randrange(apps)).app, random.randrange(1 << 40)
        begun = time.perf_counter()
        connection.request("GET", f"/v1/apps/{app}/logs?{query.format(word=word)}", headers={"Accept": "text/plain"})
        answer = connection.getresponse()
        lines = answer.read().count(b"\n")
        took.append((time.perf_counter() - begun) * 1000)
        assert answer.status == 200
        assert lines == 100 or "&" in query
    cpu = cpu_seconds(pid) - cpu
    return {"p50_ms": percentile(took, 0.5), "p99_ms": percentile(took, 0.99), "cpu_ms": cpu / times * 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        uvloop.run(serve(asked.folder))
        return
    command = [sys.executable, "-m", "benchmarks.pages", "--serve", str(asked.folder)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    address = server.stdout.readline().decode().strip().removeprefix("http://")
    report = Report("pages")
    connection = http.client.HTTPConnection(address)
    for name, query in QUERIES.items():
        report.add(f"{asked.folder.name}: {name}", ask(connection, query, asked.apps, asked.queries, server.pid))
    report.add(f"{asked.folder.name}: memory", {"memory_mb": memory(server.pid)})
    report.write()
    server.stdin.close()
    server.wait()


if __name__ == "__main__":
    main()
