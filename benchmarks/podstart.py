"""Pods of a real Kubernetes: how long the first line of a new pod takes, from its write to a tail.

    python -m benchmarks.podstart [--pods N] [--source files|api]

Kafka, ClickHouse and the roles share the machine with the cluster, as in tests/kubernetes. Needs root, and what
`make kubernetes kafka` gets. Pods are started one after the other, each while the others before it run.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import orjson

from benchmarks.report import Report, percentile
from logsvc.api.context import LOCAL_TENANT
from logsvc.bus.kafka import KafkaBus
from tests.kubernetes.collecting import Collecting, saying
from tests.kubernetes.conftest import SETTINGS
from tests.support import until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import cluster
from tests.support.kubernetes import Kubernetes, started
from tests.support.roles import Platform, Serving

APP = "shop"
LABELS = {"app.kubernetes.io/name": APP, "app.kubernetes.io/component": "web"}


async def delays(serving: Serving, session: aiohttp.ClientSession) -> AsyncIterator[tuple[str, float]]:
    """Of each line that comes from now on: its dyno, and milliseconds since it was written."""
    query = {"tail": "true", "num": "0", "source": "app"}
    async with session.get(serving.logs(APP), params=query, headers={"Accept": "application/x-ndjson"}) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            now = time.time()
            fields = orjson.loads(line)
            if "message" in fields:
                written = datetime.fromisoformat(fields["time"][:26] + "+00:00").timestamp()
                yield fields["dyno"], (now - written) * 1000


async def first_lines(kubernetes: Kubernetes, platform: Platform, source: str, pods: int) -> list[float]:
    await platform.migrate(3)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(KafkaBus.open(platform.bus))
        collecting = Collecting(kubernetes, platform, bus, source)
        collecting.namespace = LOCAL_TENANT
        collecting.begin()
        serving = platform.serve("a")
        for role in (collecting.collector(), platform.store("a"), serving):
            await (await stack.enter_async_context(role)).start()
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        collecting.pod("warm", saying("hello"), labels=LABELS)

        async def known() -> bool:
            async with session.get(serving.logs(APP)) as answer:
                return answer.status == 200

        await until(known, 120, what="the app to be known")
        lines = delays(serving, session)
        coming = asyncio.ensure_future(anext(lines))
        found: list[float] = []
        for number in range(pods):
            collecting.pod(f"web-{number}", saying("hello"), labels=LABELS)
            dyno, delay = await asyncio.wait_for(coming, 120)
            assert dyno == f"web-{number}"
            found.append(delay)
            coming = asyncio.ensure_future(anext(lines))
        coming.cancel()
        await asyncio.wait([coming])
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=30)
    parser.add_argument("--source", default="files")
    asked = parser.parse_args()
    report = Report("podstart")
    with started() as kubernetes, TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "kafka").mkdir()
        (at / "clickhouse").mkdir()
        with cluster(at / "kafka") as kafka, ClickHouse(at / "clickhouse") as clickhouse:
            platform = Platform(at, kafka, clickhouse, SETTINGS)
            found = asyncio.run(first_lines(kubernetes, platform, asked.source, asked.pods))
    figures = {"p50_ms": percentile(found, 0.5), "p90_ms": percentile(found, 0.9), "most_ms": max(found)}
    report.add(f"first line of {asked.pods} pods, by {asked.source}", figures)
    report.write()


if __name__ == "__main__":
    main()
