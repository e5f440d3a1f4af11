"""What is said of pods stands in the app's timeline, once, behind the lines that come before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from logsvc.model import AppId
from logsvc.sources.kubernetes.chronicle import Chronicle
from logsvc.sources.kubernetes.files import FilesSource
from tests.sources.kubernetes.flakyserver import flaky_server
from tests.sources.kubernetes.support import Container, MemoryBus, Node, messages
from tests.sources.kubernetes.test_pods import LABELS, Cluster
from tests.support import until

SHOP = AppId("acme", "shop")


class Watched:
    """A node, its API server, and what comes to the bus of them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.bus = MemoryBus()
        self.node = Node(folder, self.bus)
        self._now = datetime.now(UTC).isoformat()
        self.running = {"running": {"startedAt": self._now}}

    def exited(self, status: int) -> dict[str, Any]:
        return {"exitCode": status, "startedAt": self._now, "finishedAt": self._now, "reason": "Error"}

    def container(self) -> Container:
        return self.node.container(container="main")

    def pod(
        self,
        state: dict[str, Any],
        *,
        ready: bool = False,
        restarts: int = 0,
        last: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        main = {"name": "main", "image": "shop:42", "restartCount": restarts, "state": state}
        if last:
            main["lastState"] = {"terminated": last}
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": self._now}]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [main]}
        self.cluster.pod(labels=LABELS, status=status, **more)

    @asynccontextmanager
    async def collected(self, *, kill: bool = False) -> AsyncIterator[FilesSource]:
        async with self.cluster.watched() as identity:
            self.node.identity = identity
            async with self.node.collecting(kill=kill) as source:
                chronicle = Chronicle(source, identity)
                identity.listeners = [source.identities_changed, chronicle.wake]
                saying = asyncio.create_task(chronicle.run())
                try:
                    yield source
                finally:
                    saying.cancel()
                    await asyncio.wait([saying])
                assert saying.cancelled()

    def said(self) -> list[bytes]:
        """Everything in the app's timeline, in order."""
        return messages(self.bus.chunks(SHOP))

    def is_remembered(self) -> bool:
        """Whether the pod is known after a crash."""
        return self.cluster.file.exists() and b"web-1" in self.cluster.file.read_bytes()

    async def comes(self, text: bytes) -> None:
        await until(lambda: self.said()[-1:] == [text], what=f"{text!r} to be said, behind {self.said()}")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with flaky_server() as server:
        watched = Watched(Cluster(server, tmp_path), tmp_path)
        yield watched
        watched.node.close()


async def test_a_dynos_life_stands_between_its_lines(watched: Watched) -> None:
    log = watched.container()
    async with watched.collected():
        watched.pod(watched.running)
        await watched.comes(b"Starting process of image shop:42")
        log.write(b"hello")
        await watched.comes(b"hello")
        watched.pod(watched.running, ready=True)
        await watched.comes(b"State changed from starting to up")
        watched.cluster.server.delete("pods", "u1")
        await watched.comes(b"State changed from up to down")
    chunks = watched.bus.chunks(SHOP)
    assert {(chunk.stream.process, chunk.stream.dyno) for chunk in chunks} == {("web", "web-1")}
    assert [chunk.stream.source for chunk in chunks] == ["platform", "app", "platform", "platform"]


async def test_an_exit_is_said_behind_the_last_line_of_the_run(watched: Watched) -> None:
    log = watched.container()
    async with watched.collected() as source:
        watched.pod(watched.running)
        await watched.comes(b"Starting process of image shop:42")
        # The API server is faster than the disk: nothing is read for now.
        ready, source._ready = source._ready, False
        log.write(*(b"line %d" % number for number in range(1000)))
        watched.pod({"terminated": watched.exited(3)})
        await until(lambda: source.collector.chunks == 1)
        source._ready = ready
        for lane in source.lanes.values():
            source.wake(lane)
        await watched.comes(b"State changed from starting to crashed")
    assert watched.said()[1:-2] == [b"line %d" % number for number in range(1000)]
    assert watched.said()[-2] == b"Process exited with status 3"


async def test_an_exit_is_said_though_its_pod_is_gone_by_then(watched: Watched) -> None:
    log = watched.container()
    async with watched.collected() as source:
        watched.pod(watched.running)
        await watched.comes(b"Starting process of image shop:42")
        log.write(b"hello")
        await watched.comes(b"hello")
        ready, source._ready = source._ready, False
        watched.pod({"terminated": watched.exited(3)})
        watched.cluster.server.delete("pods", "u1")
        await until(lambda: not source._identity.statuses)
        source._ready = ready
        await watched.comes(b"State changed from starting to crashed")
    assert watched.said()[-2] == b"Process exited with status 3"


async def test_what_was_said_is_not_said_again_after_a_crash_and_what_happened_meanwhile_is(watched: Watched) -> None:
    watched.container()
    async with watched.collected(kill=True):
        watched.pod(watched.running, ready=True)
        await watched.comes(b"State changed from starting to up")
        await until(watched.is_remembered)
    async with watched.collected(kill=True):
        watched.pod(watched.running, ready=True, restarts=1, last=watched.exited(1))
        await until(lambda: len(watched.said()) == 7)
    watched.cluster.server.delete("pods", "u1")
    async with watched.collected() as source:
        await watched.comes(b"State changed from up to down")
        await until(lambda: not any("/:" in file for file in source.collector.positions))
    assert watched.said() == [
        b"Starting process of image shop:42",
        b"State changed from starting to up",
        b"Process exited with status 1",
        b"State changed from up to crashed",
        b"State changed from crashed to starting",
        b"Starting process of image shop:42",
        b"State changed from starting to up",
        b"State changed from up to down",
    ]


async def test_lines_of_whom_the_end_was_said_are_not_missed_when_the_log_goes_with_nobody_here(
    watched: Watched,
) -> None:
    log = watched.container()
    async with watched.collected(kill=True) as source:
        watched.pod(watched.running)
        await watched.comes(b"Starting process of image shop:42")
        log.write(b"hello")
        await watched.comes(b"hello")
        watched.pod({"terminated": watched.exited(3)})
        watched.cluster.server.delete("pods", "u1")
        await watched.comes(b"State changed from starting to crashed")
        await until(watched.is_remembered)
        await until(lambda: not source._identity.stirred)
        await source.collector.save()
    log.delete()
    async with watched.collected() as source:
        await until(lambda: source.state.recoveries and source.collector.positions == {})
    assert messages(watched.bus.chunks(SHOP), notices=True) == []


@pytest.mark.parametrize("kept", [True, False])
async def test_a_bus_that_fails_has_each_line_once(watched: Watched, kept: bool) -> None:
    watched.bus.fail_at = {0: kept, 1: kept, 2: kept}
    async with watched.collected():
        watched.pod(watched.running, ready=True)
        await watched.comes(b"State changed from starting to up")
        watched.pod({"terminated": watched.exited(0)})
        await watched.comes(b"State changed from up to crashed")
    assert len(watched.said()) == len(set(watched.said())) == 4
