"""Platform lines of Deployments and Jobs: a rollout can be followed in the tail, and says when it is done or stuck."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.sources.kubernetes.rollouts import DeploymentStatus, JobStatus, Phase, Told, tell_job, tell_rollout


def deployment(
    revision: int = 1, wanted: int = 3, updated: int = 0, available: int = 0, replicas: int | None = None, **more: Any
) -> DeploymentStatus:
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "updatedReplicas": updated,
        "availableReplicas": available,
        "replicas": updated if replicas is None else replicas,
    }
    if stuck := more.get("stuck"):
        status["conditions"] = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": stuck}]
    now = DeploymentStatus.of(
        {
            "metadata": {"generation": 1, "annotations": {"deployment.kubernetes.io/revision": str(revision)}},
            "spec": {"replicas": wanted, "template": {"spec": {"containers": [{"image": f"shop:{revision}"}]}}},
            "status": status,
        }
    )
    assert now is not None
    return now


def story(*seen: DeploymentStatus, told: Told | None = None) -> list[str]:
    texts = []
    for now in seen:
        lines, told = tell_rollout(told, now)
        texts += [line.text for line in lines]
    return texts


def test_a_rollout_begins_goes_on_and_is_done() -> None:
    assert story(
        deployment(),
        deployment(updated=3),
        deployment(updated=3, available=1),
        deployment(updated=3, available=3),
        deployment(updated=3, available=3),
        deployment(2, updated=1, available=3, replicas=4),
        deployment(2, updated=2, available=4, replicas=4),
        deployment(2, updated=3, available=4, replicas=4),
        deployment(2, updated=3, available=3),
    ) == [
        "Rollout of revision 1 begins: shop:1",
        "Rollout of revision 1: 1 of 3 dynos are up",
        "Rollout of revision 1 is done: 3 of 3 dynos are up",
        "Rollout of revision 2 begins: shop:2",
        "Rollout of revision 2: 2 of 3 dynos are up",
        "Rollout of revision 2: 3 of 3 dynos are up",
        "Rollout of revision 2 is done: 3 of 3 dynos are up",
    ]


def test_a_rollout_that_is_stuck_says_so_once_and_goes_on() -> None:
    why = 'ReplicaSet "web-5d9" has timed out progressing.'
    assert story(
        deployment(updated=1),
        deployment(updated=1, stuck=why),
        deployment(updated=1, stuck=why),
        deployment(updated=2),
        deployment(updated=3, available=3),
    ) == [
        "Rollout of revision 1 begins: shop:1",
        f"Rollout of revision 1 is stuck: {why}",
        "Rollout of revision 1 goes on",
        "Rollout of revision 1 is done: 3 of 3 dynos are up",
    ]


def test_scaling_says_from_what_to_what() -> None:
    done = deployment(updated=3, available=3)
    assert (
        story(
            done,
            deployment(wanted=5, updated=5, available=3),
            deployment(wanted=5, updated=5, available=5),
            deployment(wanted=2, updated=5, available=5),  # some are about to go
            deployment(wanted=2, updated=2, available=2),
            deployment(wanted=0),
        )[2:]
        == [
            "Scaled from 3 to 5 dynos",
            "Rollout of revision 1 is done: 5 of 5 dynos are up",
            "Scaled from 5 to 2 dynos",
            "Rollout of revision 1 is done: 2 of 2 dynos are up",
            "Scaled from 2 to 0 dynos",
            "Rollout of revision 1 is done: 0 of 0 dynos are up",
        ]
    )


def test_a_dyno_that_crashes_later_is_not_a_rollout() -> None:
    done = deployment(updated=3, available=3)
    assert len(story(done)) == 2
    assert len(story(done, deployment(updated=3, available=2), done)) == 2


def test_what_is_over_when_collection_begins_is_not_said() -> None:
    lines, told = tell_rollout(None, deployment(updated=3, available=3), new=False)
    assert lines == []
    assert tell_rollout(told, deployment(2))[0][0].text == "Rollout of revision 2 begins: shop:2"
    assert tell_job(None, job("tick-1", startTime="now", conditions=[condition("Complete")]), new=False)[0] == []


def test_a_deployment_that_its_controller_has_not_seen_says_nothing() -> None:
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"image": "shop:1"}]}}}
    assert DeploymentStatus.of({"metadata": {"generation": 1}, "spec": spec}) is None


def condition(kind: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": "True", "message": message}


def job(name: str, **status: Any) -> JobStatus:
    return JobStatus.of({"metadata": {"name": name}, "status": status})


def test_a_job_begins_and_ends() -> None:
    told = None
    texts = []
    for now in (
        job("tick-1"),
        job("tick-1", startTime="now", active=1),
        job("tick-1", startTime="now", active=1),
        job("tick-1", startTime="now", conditions=[condition("SuccessCriteriaMet"), condition("Complete")]),
    ):
        lines, told = tell_job(told, now)
        texts += [line.text for line in lines]
    assert texts == ["Job tick-1 begins", "Job tick-1 is complete"]
    failed = job("migrate", startTime="now", conditions=[condition("Failed", "Job has reached the backoff limit")])
    lines, _ = tell_job(None, failed)
    assert [line.text for line in lines] == [
        "Job migrate begins",
        "Job migrate has failed: Job has reached the backoff limit",
    ]


@st.composite
def seen(draw: st.DrawFn) -> DeploymentStatus:
    wanted = draw(st.integers(0, 4))
    updated = draw(st.integers(0, 5))
    replicas = updated + draw(st.integers(0, 3))
    stuck = draw(st.sampled_from(["", "timed out"]))
    available = draw(st.integers(0, replicas))
    return deployment(draw(st.integers(1, 3)), wanted, updated, available, replicas, stuck=stuck)


@given(st.lists(seen(), max_size=8))
def test_whoever_goes_on_after_any_line_says_the_rest_and_nothing_twice(statuses: list[DeploymentStatus]) -> None:
    told: Told | None = None
    for now in statuses:
        lines, after = tell_rollout(told, now)
        for number, line in enumerate(lines):
            again, reached = tell_rollout(Told.decode(line.told.encode()), now)
            assert [each.text for each in again] == [each.text for each in lines[number + 1 :]]
            assert reached == after
        told = after
        assert tell_rollout(told, now) == ([], told)


def test_what_was_told_is_read_as_it_was_written() -> None:
    told = Told(Phase.STUCK, 7, 2, 3)
    assert Told.decode(told.encode()) == told
    with pytest.raises(ValueError, match="not a valid Phase"):
        Told.decode((("revision", 1),))
