"""What is said of rollouts and jobs stands in the app's timeline, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from logsvc.model import AppId
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.event_teller import EventTeller
from logsvc.sources.kubernetes.naming import Rules
from logsvc.sources.kubernetes.rollout_teller import RolloutTeller
from logsvc.sources.kubernetes.saying import SayingSource
from logsvc.sources.kubernetes.teller import Tenants
from tests.sources.kubernetes.flakyserver import flaky_server
from tests.sources.kubernetes.manifests import deployment, job
from tests.sources.kubernetes.support import MemoryBus, messages
from tests.sources.kubernetes.test_pods import LABELS, Cluster
from tests.support import until

SHOP = AppId("acme", "shop")


class Told:
    """A cluster, and what comes to the bus of it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.server = cluster.server
        self.cluster = cluster
        self.bus = MemoryBus()
        self._folder = folder

    @asynccontextmanager
    async def telling(self, *, kill: bool = False) -> AsyncIterator[SayingSource]:
        checkpoint = Checkpoint(self._folder / "checkpoint", "cluster")
        async with ApiServer.open(ApiSettings(self.server.url, None, self._folder / "token")) as api:
            source = SayingSource(Collector(self.bus, "cluster", checkpoint))
            tenants = Tenants(api, Rules())
            tellers = [teller(source, api, Rules(), tenants.known) for teller in (RolloutTeller, EventTeller)]
            running = asyncio.create_task(source.run())
            telling = [asyncio.create_task(each.run()) for each in (tenants, *tellers)]
            try:
                yield source
            finally:
                if kill:
                    source.collector._checkpoint.save = lambda _: None
                    running.cancel()
                source.stop()
                for task in telling:
                    task.cancel()
                await asyncio.wait([running, *telling])
            assert all(task.cancelled() for task in telling)

    def rollout(
        self, revision: int, *, uid: str = "d1", up: int = 0, updated: int | None = None, wanted: int = 2
    ) -> None:
        item = deployment(uid, revision, labels=LABELS, up=up, updated=updated, wanted=wanted)
        self.server.put("deployments", item)

    def said(self) -> list[bytes]:
        return messages(self.bus.chunks(SHOP))

    async def comes(self, text: bytes) -> None:
        await until(lambda: self.said()[-1:] == [text], what=f"{text!r} to be said, behind {self.said()}")


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    async with flaky_server() as server:
        yield Told(Cluster(server, tmp_path), tmp_path)


async def test_a_rollout_is_said_once_through_kills_and_a_bus_that_fails(told: Told) -> None:
    told.rollout(1, up=2)
    told.bus.fail_at = {0: True, 2: False, 4: True}
    async with told.telling(kill=True) as source:
        await until(lambda: "d1/:rollout" in source.collector.positions)
        told.rollout(2, updated=1)
        await told.comes(b"Rollout of revision 2 begins: shop:2")
        told.rollout(2, updated=2, up=1)
        await told.comes(b"Rollout of revision 2: 1 of 2 dynos are up")
    told.rollout(2, up=2)
    async with told.telling(kill=True):
        await told.comes(b"Rollout of revision 2 is done: 2 of 2 dynos are up")
    async with told.telling() as source:
        await until(lambda: source.ready)
        told.rollout(2, up=2, wanted=3)
        await told.comes(b"Scaled from 2 to 3 dynos")
    assert told.said() == [
        b"Rollout of revision 2 begins: shop:2",
        b"Rollout of revision 2: 1 of 2 dynos are up",
        b"Rollout of revision 2 is done: 2 of 2 dynos are up",
        b"Scaled from 2 to 3 dynos",
    ]
    (stream,) = {chunk.stream for chunk in told.bus.chunks(SHOP)}
    assert (stream.process, stream.dyno, stream.source) == ("web", "web", "platform")


async def test_the_runs_of_a_cron_job_are_said_as_its_own(told: Told) -> None:
    labels = {"app.kubernetes.io/name": "shop"}
    async with told.telling() as source:
        told.server.put("jobs", job("j1", labels=labels, owner="shop-tidy", startTime="2026-11-23T02:00:00Z"))
        await told.comes(b"Job tidy-1 begins")
        failed = {"type": "Failed", "status": "True", "message": "it ran too often"}
        told.server.put("jobs", job("j1", labels=labels, owner="shop-tidy", startTime="x", conditions=[failed]))
        await told.comes(b"Job tidy-1 has failed: it ran too often")
        told.server.delete("jobs", "j1")
        await until(lambda: not source.collector.positions)
    (stream,) = {chunk.stream for chunk in told.bus.chunks(SHOP)}
    assert (stream.process, stream.dyno) == ("cron-tidy", "tidy-1")


async def test_what_was_deleted_while_nobody_looked_is_forgotten(told: Told) -> None:
    told.rollout(1, updated=1)
    async with told.telling():
        await told.comes(b"Rollout of revision 1 begins: shop:1")
    told.server.delete("deployments", "d1")
    async with told.telling() as source:
        await until(lambda: source.ready and not source.collector.positions)
    assert told.said() == [b"Rollout of revision 1 begins: shop:1"]
