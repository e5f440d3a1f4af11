"""A Lease has one holder at a time, whoever is stopped, cut off or killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.event_teller import EVENT
from logsvc.sources.kubernetes.leases import Lease, boot_clock
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.rollout_teller import ROLLOUT
from logsvc.sources.kubernetes.shards import Shard
from tests.sources.kubernetes.flakyserver import FlakyServer, flaky_server
from tests.support import until

SECONDS = 20.0


class Candidates:
    """Processes that want one Lease, each with a clock of its own that the test sets."""

    def __init__(self, api: ApiServer, server: FlakyServer) -> None:
        self.server = server
        self.now = {"a": 0.0, "b": 1000.0}
        self._api = api

    def lease(self, holder: str) -> Lease:
        return Lease(self._api, "logs", "logsvc-collect-0", holder, SECONDS, lambda: self.now[holder])

    @property
    def holder(self) -> str:
        return self.server.objects["leases", "logs/logsvc-collect-0"]["spec"]["holderIdentity"]

    async def looks(self, times: int = 2) -> None:
        """Wait until somebody has looked so often from here on."""
        begin = self.server.count("get", "leases")
        await until(lambda: self.server.count("get", "leases") >= begin + times)


@pytest.fixture
async def candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Candidates]:
    monkeypatch.setattr("logsvc.sources.kubernetes.leases._LOOK", 0.01)
    monkeypatch.setattr("logsvc.sources.kubernetes.leases._RENEW", 0.01)
    (tmp_path / "token").write_text("token")
    async with flaky_server() as server, ApiServer.open(ApiSettings(server.url, None, tmp_path / "token")) as api:
        yield Candidates(api, server)


async def ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_one_has_it_for_as_long_as_it_renews_it_and_another_when_it_is_released(candidates: Candidates) -> None:
    ours, others = candidates.lease("a"), candidates.lease("b")
    assert ours.rest < 0
    await ours.take()
    assert ours.rest == SECONDS
    keeping, taking = asyncio.create_task(ours.keep()), asyncio.create_task(others.take())
    for _ in range(5):
        await candidates.looks()
        candidates.now["a"] += SECONDS - 1
        candidates.now["b"] += SECONDS - 1
        await until(lambda: ours.rest == SECONDS, what="the renewal")
        await candidates.looks()
        assert candidates.holder == "a"
        assert others.rest < 0
    await ended(keeping)
    await ours.release()
    assert ours.rest < 0
    await asyncio.wait_for(taking, 60)
    assert (candidates.holder, others.rest) == ("b", SECONDS)
    assert candidates.server.objects["leases", "logs/logsvc-collect-0"]["spec"]["leaseTransitions"] == 2


async def test_it_is_released_also_where_the_last_renewal_was_not_answered(candidates: Candidates) -> None:
    lease = candidates.lease("a")
    await lease.take()
    await candidates.lease("a").take()  # what came to the API server under its name, and of which it doesn't know
    await lease.release()
    assert candidates.holder == ""


async def test_one_that_is_dead_is_followed_once_its_time_is_over(candidates: Candidates) -> None:
    dead, other = candidates.lease("a"), candidates.lease("b")
    await dead.take()
    taking = asyncio.create_task(other.take())
    await candidates.looks()
    candidates.now["b"] += SECONDS - 1
    await candidates.looks()
    assert candidates.holder == "a"
    candidates.now["b"] += 2
    await asyncio.wait_for(taking, 60)
    assert candidates.holder == "b"


async def test_one_that_was_stopped_knows_at_once_that_it_may_not_and_then_that_it_is_another(
    candidates: Candidates, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, other = candidates.lease("a"), candidates.lease("b")
    await stopped.take()
    other_taking = asyncio.create_task(other.take())
    await candidates.looks()
    for holder in ("a", "b"):
        candidates.now[holder] += SECONDS + 1
    # Before anything else is done: what it was about to send isn't sent.
    assert stopped.rest < 0
    await asyncio.wait_for(other_taking, 60)
    await asyncio.wait_for(stopped.keep(), 60)
    assert "the lease logsvc-collect-0 has run out or is another's now" in caplog.text
    await stopped.release()
    assert candidates.holder == "b"


async def test_who_is_cut_off_from_the_api_server_has_it_until_its_time_is_over(candidates: Candidates) -> None:
    lease = candidates.lease("a")
    await lease.take()
    candidates.server.refused["update", "leases"] = 503
    keeping = asyncio.create_task(lease.keep())
    await until(lambda: candidates.server.count("update", "leases") > 3)
    assert lease.rest == SECONDS
    candidates.server.refused.clear()
    candidates.now["a"] += 5
    await until(lambda: lease.rest == SECONDS)
    candidates.server.refused["update", "leases"] = 503
    candidates.now["a"] += SECONDS
    await asyncio.wait_for(keeping, 60)
    assert lease.rest <= 0


async def test_who_comes_back_under_its_own_name_takes_it_at_once(candidates: Candidates) -> None:
    await candidates.lease("a").take()
    again = candidates.lease("a")
    await asyncio.wait_for(again.take(lambda: 1e9), 60)
    assert again.rest == SECONDS


async def test_of_many_that_want_it_at_once_one_gets_it(candidates: Candidates) -> None:
    candidates.now |= {str(number): 0.0 for number in range(20)}
    leases = [candidates.lease(str(number)) for number in range(20)]
    tasks = [asyncio.create_task(lease.take()) for lease in leases]
    await until(lambda: any(task.done() for task in tasks))
    await candidates.looks(40)
    assert sum(lease.rest > 0 for lease in leases) == 1
    await ended(*tasks)


async def test_who_hesitates_leaves_it_to_others(candidates: Candidates) -> None:
    slow = asyncio.create_task(candidates.lease("a").take(lambda: 0.2))
    await candidates.looks(1)
    await candidates.lease("b").take()
    await candidates.looks(3)
    assert candidates.holder == "b"
    await ended(slow)


async def test_a_missing_right_is_named(candidates: Candidates, caplog: pytest.LogCaptureFixture) -> None:
    candidates.server.refused["create", "leases"] = 403
    taking = asyncio.create_task(candidates.lease("a").take())
    rule = '{apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["create"]}'
    await until(lambda: f"in the rules of the Role: - {rule}" in caplog.text)
    candidates.server.refused.clear()
    await asyncio.wait_for(taking, 60)


def test_its_clock_goes_on() -> None:
    assert boot_clock() <= boot_clock()


def test_each_pod_is_of_one_share_and_so_is_all_that_is_said_of_it() -> None:
    shards = [Shard(number, 5) for number in range(5)]
    counts = [0] * 5
    for number in range(1000):
        pod = Pod("acme", "web", f"uid-{number}")
        (shard,) = [shard for shard in shards if shard.has(pod)]
        counts[shard.number] += 1
        assert [each for each in shards if each.has_file(f"{pod.uid}/main/3")] == [shard]
        assert [each for each in shards if each.has_file(f"{pod.uid}/:pod")] == [shard]
    assert min(counts) > 100
    for said in (ROLLOUT, EVENT):
        assert [shard.number for shard in shards if shard.has_file("uid" + said)] == [0]
