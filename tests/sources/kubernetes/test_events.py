"""What Events tell: probes that fail and what keeps a dyno from starting, as someone who watches a rollout reads it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.sources.kubernetes.events import Event
from logsvc.sources.kubernetes.podlogs import Pod
from tests.sources.kubernetes import manifests

REFUSED = 'Get "http://10.88.0.7:8080/": dial tcp 10.88.0.7:8080: connect: connection refused'


def event(message: str, reason: str = "Unhealthy", **more: Any) -> Event:
    found = Event.of(manifests.event("e1", message, reason, **more))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("reason", "message", "text"),
    [
        ("Unhealthy", f"Readiness probe failed: {REFUSED}", f"Readiness probe failed: {REFUSED}"),
        ("Unhealthy", "Liveness probe failed: ", "Liveness probe failed: "),
        ("Unhealthy", "Startup probe errored and resulted in unknown state: x", "Startup probe failed: x"),
        ("Unhealthy", "(combined from similar events): Readiness probe failed: x\n", "Readiness probe failed: x"),
        ("Unhealthy", "what nobody knows", "The probe failed: what nobody knows"),
        ("FailedMount", 'secret "db" not found', 'Process can\'t be started: FailedMount: secret "db" not found'),
        ("FailedScheduling", "0/1 nodes are available", "There is no room for the dyno: 0/1 nodes are available"),
    ],
)
def test_what_is_said(reason: str, message: str, text: str) -> None:
    assert (event(message, reason).tell(0) or "").strip() == text.strip()


def test_what_the_message_says_is_one_line_and_not_without_end() -> None:
    text = event("Readiness probe failed: " + "x\n" * 5000).tell(0)
    assert text is not None
    assert "\n" not in text
    assert len(text) < 600


def test_of_what_it_is_said() -> None:
    found = event("Readiness probe failed: x", container="proxy", count=3)
    assert found[:2] == (Pod("acme", "web-1", "u1"), "proxy")
    assert event("no room", "FailedScheduling", container="").container == ""
    init = manifests.event("e1", "x")
    init["involvedObject"]["fieldPath"] = "spec.initContainers{migrate}"
    assert getattr(Event.of(init), "container", "") == "migrate"


@pytest.mark.parametrize("more", [{"reason": "BackOff"}, {"involvedObject": {"kind": "Node", "name": "node1"}}])
def test_what_pods_themselves_tell_and_what_is_of_no_pod_is_left_out(more: dict[str, Any]) -> None:
    assert Event.of(manifests.event("e1", "x") | more) is None


def test_an_event_of_a_series_has_its_count_and_time_there() -> None:
    item = manifests.event("e1", "Readiness probe failed: x")
    del item["count"]
    item |= {"lastTimestamp": None, "series": {"count": 4, "lastObservedTime": "2026-11-23T02:00:00.000000Z"}}
    found = Event.of(item)
    assert found is not None
    assert (found.times, found.at) == (4, 1_795_399_200.0)


@given(st.lists(st.integers(0, 20), max_size=60))
def test_a_probe_that_fails_for_hours_is_said_ever_more_seldom(steps: list[int]) -> None:
    told = count = 0
    said: list[int] = []
    for step in steps:
        count += step
        now = event("Readiness probe failed: x", count=max(count, 1))
        if now.tell(told) is not None:
            told = now.times
            said.append(told)
        assert now.tell(told) is None, "nobody says it again"
        assert now.times < 2 * told
    assert said == sorted(set(said))
    assert all(after >= 2 * before for before, after in pairwise(said))


def test_what_is_no_probe_is_said_once() -> None:
    assert event("x", "FailedMount", count=100).tell(1) is None
