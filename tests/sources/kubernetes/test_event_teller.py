"""What is said of Events stands in the timeline of the app that the pod is of, once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.sources.kubernetes import manifests
from tests.sources.kubernetes.flakyserver import flaky_server
from tests.sources.kubernetes.test_pods import LABELS, Cluster
from tests.sources.kubernetes.test_rollout_teller import SHOP, Told
from tests.support import until

PROBE = "Readiness probe failed: connection refused"
SAID = PROBE.encode()


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    async with flaky_server() as server:
        yield Told(Cluster(server, tmp_path), tmp_path)


def pod(told: Told, state: dict[str, Any] | None = None, **more: Any) -> None:
    main = {"name": "main", "image": "shop:1", "restartCount": 2}
    main["state"] = state or {"running": {"startedAt": "2026-11-23T02:00:00Z"}}
    told.cluster.pod(labels=LABELS, status={"phase": "Running", "containerStatuses": [main]}, **more)


def happens(told: Told, uid: str, message: str = PROBE, **more: Any) -> None:
    told.server.put("events", manifests.event(uid, message, **more))


async def test_a_probe_that_fails_is_said_once_through_kills_relists_and_a_bus_that_fails(told: Told) -> None:
    pod(told)
    told.bus.fail_at = {0: True, 2: False}
    async with told.telling(kill=True):
        happens(told, "e1")
        await told.comes(SAID)
        told.server.forget()
        told.server.cut()
        happens(told, "e1", count=2)
        await told.comes(b"Readiness probe failed 2 times: connection refused")
    async with told.telling(kill=True):
        happens(told, "e1", count=3)
        happens(told, "e1", count=5)
        await told.comes(b"Readiness probe failed 5 times: connection refused")
    async with told.telling() as source:
        happens(told, "e2", "no room", reason="FailedScheduling", container="")
        await told.comes(b"There is no room for the dyno: no room")
        told.server.delete("events", "e1")
        told.server.delete("events", "e2")
        await until(lambda: not source.collector.positions)
    assert [text.split(b":")[0] for text in told.said()] == [
        b"Readiness probe failed",
        b"Readiness probe failed 2 times",
        b"Readiness probe failed 5 times",
        b"There is no room for the dyno",
    ]
    (stream,) = {chunk.stream for chunk in told.bus.chunks(SHOP)}
    assert (stream.process, stream.dyno, stream.source, stream.incarnation) == ("web", "web-1", "platform", "u1/main/2")


async def test_it_is_said_once_the_process_is_known_to_run(told: Told) -> None:
    pod(told, {"waiting": {"reason": "ContainerCreating"}})
    async with told.telling():
        happens(told, "e1")
        await until(lambda: told.server.count("get") > 1)
        assert told.said() == []
        pod(told)
        await told.comes(SAID)


async def test_what_is_over_or_nobodys_is_not_said(told: Told) -> None:
    pod(told)
    happens(told, "long-ago", at=datetime.now(UTC) - timedelta(hours=1))
    happens(told, "just-now", "Liveness probe failed: x")
    async with told.telling():
        await told.comes(b"Liveness probe failed: x")
        told.cluster.pod("web-2", "u2", annotations={"logsvc/exclude": "*"})
        happens(told, "left-out", pod=("web-2", "u2"))
        happens(told, "gone", pod=("web-3", "u3"))
        happens(told, "anothers", pod=("web-1", "u0"))
        # The clock of its node is wrong: that doesn't make it old.
        happens(told, "last", at=datetime.now(UTC) - timedelta(hours=1))
        await told.comes(SAID)
    assert told.said() == [b"Liveness probe failed: x", SAID]


async def test_a_missing_right_is_named(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.server.refused["list", "events"] = 403
    pod(told)
    happens(told, "e1")
    async with told.telling():
        await until(lambda: '{apiGroups: [""], resources: ["events"], verbs: ["list"]}' in caplog.text)
        told.server.refused = {("get", "pods"): 403}
        await until(lambda: '{apiGroups: [""], resources: ["pods"], verbs: ["get"]}' in caplog.text)
        told.server.refused.clear()
        await told.comes(SAID)


async def test_an_event_of_a_pod_that_can_not_be_delays_no_other(told: Told) -> None:
    pod(told)
    async with told.telling() as source:
        for uid, name in {"e1": "", "e2": "..", "e3": "../../../../version"}.items():
            happens(told, uid, pod=(name, "u1"))
        happens(told, "e4")
        await told.comes(SAID)
        await until(lambda: {f"e{number}/:event" for number in range(1, 5)} <= source.collector.positions.keys())
    assert told.said() == [SAID]


async def test_an_object_that_is_refused_delays_no_other(told: Told) -> None:
    pod(told)
    told.cluster.pod("job-1", "u2", owner=("batch/v1", "Job", "job"), labels=LABELS)
    told.server.refused["get", "jobs"] = 403
    async with told.telling():
        happens(told, "e1", "Liveness probe failed: x", pod=("job-1", "u2"))
        await until(lambda: told.server.count("get", "jobs"))
        for number in range(2, 10):
            happens(told, f"e{number}")
        await until(lambda: told.said() == [SAID] * 8)
        told.server.refused.clear()
        await told.comes(b"Liveness probe failed: x")
