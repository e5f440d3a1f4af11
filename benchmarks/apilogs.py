"""Collecting through the API server: logs to the bus of one machine, lines per CPU-second of the process that follows.

    python -m benchmarks.apilogs [--streams N] [--lines N] [--runs N]

The server is that of the tests, in a process of its own, over TLS. `idle` follows logs in which nothing happens.
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
from benchmarks.report import Report, memory, repeated
from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.formats import cri
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.apisource import ApiSource
from logsvc.sources.kubernetes.naming import Rules
from logsvc.sources.kubernetes.pods import PodIdentity
from tests.sources.kubernetes import manifests
from tests.sources.kubernetes.flakyserver import Log, flaky_server
from tests.support import until
from tests.support.certificates import authority, serving, signed

Figures = dict[str, float]
BEGUN = "2026-11-23T02:00:00Z"


async def serve(streams: int, lines: int, certificate: Path) -> None:
    """Pods with a log each, until stdin ends."""
    parsed = [cri.parse(line[:-1]) for line in islice(cri_lines(time.time_ns()), lines)]
    given = [b"%b %b\n" % (stamp, message) for stamp, _, _, message in parsed]
    async with flaky_server(serving(certificate)) as server:
        namespace = manifests.namespace("bench")
        namespace["metadata"]["uid"] = "bench"
        server.put("namespaces", namespace)
        for number in range(streams):
            main = {"name": "main", "restartCount": 0, "state": {"running": {"startedAt": BEGUN}}}
            status = {"phase": "Running", "conditions": [], "containerStatuses": [main]}
            labels = {"app.kubernetes.io/name": f"app-{number // 10}"}
            server.put("pods", manifests.pod(f"web-{number}", "bench", f"u{number}", labels=labels, status=status))
            server.logs[f"u{number}", "main", 0] = Log([*given])
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def following(folder: Path, streams: int, lines: int) -> AsyncIterator[ApiSource]:
    key, ca = authority(folder, "authority")
    certificate = signed(folder, "server", key, ca)
    command = [sys.executable, "-m", "benchmarks.apilogs", "--serve", str(streams), str(lines), str(certificate)]
    server = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().strip()
    (folder / "token").write_text("token")
    try:
        async with (
            LocalBus.open(folder / "bus", settings=LocalSettings(max_bytes=8 << 30)) as bus,
            ApiServer.open(ApiSettings(url, ca, folder / "token")) as api,
            asyncio.TaskGroup() as tasks,
        ):
            clock = asyncio.get_running_loop().time
            pods = PodIdentity(api, "", Rules(), folder / "pods", clock=clock)
            source = ApiSource(api, pods, Collector(bus, "bench", Checkpoint(folder / "checkpoint", "bench")), 1e6)
            pods.listeners = [source.identities_changed]
            watching = tasks.create_task(pods.run())
            tasks.create_task(source.run())
            yield source
            source.stop()
            watching.cancel()
    finally:
        server.terminate()
        await server.wait()


async def backlog(folder: Path, streams: int, lines: int) -> Figures:
    """Read what is there already."""
    each = lines // streams
    cpu, wall = time.process_time(), time.perf_counter()
    async with following(folder, streams, each) as source:
        size = 0
        while size < source.collector.bytes or size == 0 or len(source.logs) < streams:
            size = source.collector.bytes
            await asyncio.sleep(1)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        chunks = source.collector.chunks
    return {"lines_per_cpu_s": each * streams / cpu, "seconds": wall, "lines_per_chunk": each * streams / chunks}


async def idle(folder: Path, streams: int, seconds: int) -> Figures:
    """Follow logs in which nothing happens, after the first rush."""
    before = memory()
    async with following(folder, streams, 1) as source:
        await until(lambda: source.collector.chunks >= streams, 300)
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        cpu = time.process_time() - cpu
        return {"percent_of_a_core": cpu / seconds * 100, "kb_a_stream": (memory() - before) * 1024 / streams}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        streams, lines, certificate = asked.serve
        asyncio.run(serve(int(streams), int(lines), Path(certificate)))
        return
    report = Report("apilogs")
    case = f"backlog of {asked.streams} logs"
    report.add(case, repeated(asked.runs, lambda at: backlog(at, asked.streams, asked.lines)))
    report.add("1000 idle logs", repeated(1, lambda at: idle(at, 1000, 20)))
    report.write()


if __name__ == "__main__":
    main()
