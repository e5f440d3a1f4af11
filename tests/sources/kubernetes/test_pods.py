"""Identity from the watch: lines wait for their pod, and are never filed under a wrong app."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from logsvc.model import Stream
from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.lane import Unwanted
from logsvc.sources.kubernetes.naming import Rules
from logsvc.sources.kubernetes.pods import PodIdentity
from tests.sources.kubernetes import manifests
from tests.sources.kubernetes.flakyserver import FlakyServer, flaky_server
from tests.sources.kubernetes.support import MemoryBus, Node, messages
from tests.support import until

LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "web"}


class Cluster:
    """An API server, and what keeps up with it."""

    def __init__(self, server: FlakyServer, folder: Path) -> None:
        self.server = server
        self.file = folder / "collector" / "pods"
        self.now = 0.0
        self._token = folder / "token"
        self._token.write_text("token")
        self.namespace("acme")

    def namespace(self, name: str, **annotations: str) -> None:
        item = manifests.namespace(name, {f"logsvc/{key}": value for key, value in annotations.items()})
        item["metadata"]["uid"] = f"namespace-{name}"
        self.server.put("namespaces", item)

    def pod(self, name: str = "web-1", uid: str = "u1", **given: Any) -> None:
        self.server.put("pods", manifests.pod(name, given.pop("namespace", "acme"), uid, **given))

    @asynccontextmanager
    async def watched(self, rules: Rules | None = None) -> AsyncIterator[PodIdentity]:
        async with ApiServer.open(ApiSettings(self.server.url, None, self._token)) as api:
            identity = PodIdentity(api, "node1", rules or Rules(), self.file, clock=lambda: self.now)
            running = asyncio.create_task(identity.run())
            try:
                yield identity
            finally:
                running.cancel()
                await asyncio.wait([running])
            assert running.cancelled()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with flaky_server() as server:
        yield Cluster(server, tmp_path)


def asked(identity: PodIdentity, **given: Any) -> Callable[[], Stream | Unwanted | None]:
    question = {"namespace": "acme", "pod": "web-1", "uid": "u1", "container": "main", "restart": 0} | given
    return lambda: identity.stream(**question)


async def told(identity: PodIdentity, **given: Any) -> Stream:
    stream = await until(asked(identity, **given))
    assert isinstance(stream, Stream)
    return stream


async def test_a_pods_streams_follow_from_its_labels_and_its_namespace(cluster: Cluster) -> None:
    cluster.namespace("acme", plan="pro", retention="3")
    cluster.pod(labels=LABELS)
    async with cluster.watched() as identity:
        stream = await told(identity)
        assert stream == Stream("acme", "shop", "web", "web-1", "app", "u1/main/0", 3)
        assert identity.stream("acme", "web-1", "u1", "main", 0) is stream
        assert await told(identity, restart=1) == Stream("acme", "shop", "web", "web-1", "app", "u1/main/1", 3)
        cluster.namespace("acme", plan="free")
        await until(lambda: getattr(asked(identity)(), "retention", 3) == 0)
        cluster.pod(labels=LABELS | {"app.kubernetes.io/component": "canary"})
        await until(lambda: getattr(asked(identity)(), "process", "") == "canary")


async def test_name_namespace_and_uid_must_be_those_of_one_pod(cluster: Cluster) -> None:
    cluster.namespace("evil")
    cluster.pod(labels=LABELS)
    async with cluster.watched() as identity:
        await told(identity)
        for other in ({"uid": "u2"}, {"pod": "web-2"}, {"namespace": "evil"}):
            assert asked(identity, **other)() is None


async def test_a_run_of_a_cron_job_waits_until_its_job_was_looked_at(cluster: Cluster) -> None:
    cluster.server.refused["get", "jobs"] = 503
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "c1", "controller": True}
    job = {"metadata": {"name": "tick-29", "namespace": "acme", "uid": "j1", "ownerReferences": [owner]}}
    cluster.server.put("jobs", job)
    cluster.pod(owner=("batch/v1", "Job", "tick-29"))
    cluster.pod("import-x", "u2", owner=("batch/v1", "Job", "import"))
    async with cluster.watched() as identity:
        await until(lambda: cluster.server.count("get", "jobs") > 1)
        cluster.now = 1000.0
        assert asked(identity)() is None
        cluster.server.refused.clear()
        assert (await told(identity)).process == "cron-tick"
        assert (await told(identity, pod="import-x", uid="u2")).process == "import"


async def test_without_the_right_to_look_at_jobs_their_own_name_does(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.server.refused["get", "jobs"] = 403
    cluster.pod(owner=("batch/v1", "Job", "tick-29"))
    async with cluster.watched() as identity:
        assert (await told(identity)).process == "tick-29"
    assert '- {apiGroups: ["batch"], resources: ["jobs"], verbs: ["get"]}' in caplog.text


async def test_a_pod_that_is_gone_and_was_never_seen_is_filed_under_its_namespace(cluster: Cluster) -> None:
    async with cluster.watched() as identity:
        gone = asked(identity, pod="old-1", uid="u9")
        await until(lambda: cluster.server.count("watch") == 1)
        await until(lambda: identity._follow_pods.connected and identity._follow_namespaces.connected)
        assert gone() is None
        cluster.now += 29
        assert gone() is None
        cluster.now += 2
        assert gone() == Stream("acme", "acme", "main", "old-1", "app", "u9/main/0", 0)
        cluster.pod("old-1", "u9", labels=LABELS)
        await until(lambda: getattr(gone(), "app", "") == "shop")


async def test_while_the_api_server_is_away_nobody_counts_as_gone(cluster: Cluster) -> None:
    cluster.server.refused["list", "pods"] = 503
    async with cluster.watched() as identity:
        await until(lambda: cluster.server.count("list") > 1)
        for _ in range(5):
            cluster.now += 100
            assert asked(identity)() is None
        cluster.pod(labels=LABELS)
        cluster.server.refused.clear()
        assert (await told(identity)).app == "shop"


@pytest.mark.parametrize("name", ["../../../../../../api/v1/pods", "..", ".", "a/b", "%2e%2e", "tick?x", "tick#x", "é"])
async def test_an_owner_with_a_name_that_leads_elsewhere_is_not_asked_for(cluster: Cluster, name: str) -> None:
    cluster.pod(owner=("batch/v1", "Job", name), labels={"app.kubernetes.io/name": "shop"})
    async with cluster.watched() as identity:
        assert (await told(identity)).process == "web-1"
    assert {resource for _, resource, _ in cluster.server.requests} <= {"pods", "namespaces", "jobs"}
    assert cluster.server.count("list") == 1


async def test_a_deleted_pod_and_its_namespace_are_still_known_and_after_a_restart_too(cluster: Cluster) -> None:
    cluster.namespace("acme", retention="5")
    cluster.pod(labels=LABELS)
    cluster.pod("tick-29-x", "u2", owner=("batch/v1", "Job", "import"), annotations={"logsvc/exclude": "main"})
    async with cluster.watched() as identity:
        stream = await told(identity)
        assert await until(asked(identity, pod="tick-29-x", uid="u2")) is Unwanted.LINES
        await until(lambda: cluster.file.exists() and cluster.file.read_bytes().count(b"tick-29-x"))
        cluster.server.delete("pods", "u1")
        cluster.server.delete("namespaces", "namespace-acme")
        await until(lambda: not identity._namespaces)
        await until(lambda: "u1" not in identity._folders)
        assert asked(identity)() == stream
    cluster.server.refused["list", "pods"] = 503
    async with cluster.watched() as identity:
        assert asked(identity)() == stream
        assert asked(identity, pod="tick-29-x", uid="u2")() is Unwanted.LINES


async def test_a_list_of_pods_that_is_corrupt_is_set_aside(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.file.parent.mkdir()
    cluster.file.write_bytes(b"00000000 {}\n")
    cluster.pod(labels=LABELS)
    async with cluster.watched() as identity:
        await told(identity)
    assert "set aside as pods.corrupt" in caplog.text


async def test_no_more_than_so_many_deleted_pods_are_remembered(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.sources.kubernetes.pods._MOST_GONE", 2)
    async with cluster.watched() as identity:
        for number in range(5):
            cluster.namespace(f"review-{number}")
            cluster.pod(f"web-{number}", f"u{number}", namespace=f"review-{number}", labels=LABELS)
            await told(identity, namespace=f"review-{number}", pod=f"web-{number}", uid=f"u{number}")
            cluster.server.delete("pods", f"u{number}")
            cluster.server.delete("namespaces", f"namespace-review-{number}")
            await until(lambda: len(identity._namespaces) == 1)
            await until(lambda: not identity._folders)
        assert len(identity._pods) == 2
        assert len(identity._tenants) <= 4


async def test_lines_that_nobody_wants_are_passed_over_and_what_is_wanted_again_goes_on_from_there(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.pod(labels=LABELS, annotations={"logsvc/exclude": "main"})
    bus = MemoryBus()
    node = Node(tmp_path, bus)
    log = node.container(container="main")
    log.write(b"not this")
    async with cluster.watched() as identity:
        node.identity = identity
        async with node.collecting() as source:
            await source.drained()
            log.write(b"nor this")
            log.rotate()
            log.write(b"nor that", tag="P")
            await source.drained()
            await until(lambda: not source._active)
        cluster.pod(labels=LABELS)
        await until(lambda: isinstance(asked(identity)(), Stream))
        log.write(b" at all")
        log.write(b"but this")
        await node.collect()
    assert messages(bus.chunks()) == [b" at all", b"but this"]
    assert node.notices() == []
    node.close()
