"""Platform lines: someone who watches a rollout reads what happens to each dyno, once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.sources.kubernetes.transitions import NOTHING, Line, PodStatus, Said, State, tell, tell_gone
from tests.sources.kubernetes import manifests

IMAGE = "registry.example/shop:42"


def moment(second: int) -> str:
    return f"2026-11-23T02:{second // 60:02}:{second % 60:02}Z"


def container(
    name: str = "main", restarts: int = 0, last: dict[str, Any] | None = None, **state: Any
) -> dict[str, Any]:
    status: dict[str, Any] = {"name": name, "image": IMAGE, "restartCount": restarts, "state": state}
    return status | ({"lastState": {"terminated": last}} if last else {})


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def running(at: int = 1) -> dict[str, Any]:
    return {"startedAt": moment(at)}


def ended(status: int = 0, at: int = 9, **more: Any) -> dict[str, Any]:
    return {"exitCode": status, "startedAt": moment(1), "finishedAt": moment(at), "reason": "Error"} | more


def status(
    *containers: dict[str, Any],
    ready: bool = False,
    phase: str = "Running",
    deleted: bool = False,
    init: tuple[dict[str, Any], ...] = (),
    at: int = 1,
    restart: str = "Always",
    **more: Any,
) -> PodStatus:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": moment(at)}]
    given = {"phase": phase, "conditions": conditions, "containerStatuses": [*containers], **more}
    if init:
        given["initContainerStatuses"] = [*init]
    pod = manifests.pod(status=given, restart=restart)
    if deleted:
        pod["metadata"]["deletionTimestamp"] = moment(at)
    return PodStatus.of(pod, "main")


def story(*pods: PodStatus, said: Said | None = None) -> list[str]:
    """What is said while a pod goes through these states."""
    texts = []
    for pod in pods:
        lines, said = tell(said, pod)
        texts += [line.text for line in lines]
    return texts


@pytest.mark.parametrize("phase", ["Running", "Failed", "Succeeded"])
def test_a_dyno_starts_gets_ready_and_is_stopped(phase: str) -> None:
    assert story(
        status(container(waiting=waiting("ContainerCreating")), phase="Pending"),
        status(container(running=running())),
        status(container(running=running()), ready=True),
        status(container(running=running()), ready=True, deleted=True),
        status(container(terminated=ended(143)), phase=phase, deleted=True),
    ) == [
        f"Starting process of image {IMAGE}",
        "State changed from starting to up",
        "Stopping all processes with SIGTERM",
        "Process exited with status 143 (SIGTERM)",
        "State changed from stopping to down",
    ]


def test_a_crash_loop_says_each_exit_and_each_start_once() -> None:
    back_off = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=main pod=web_acme(u1)")
    assert story(
        status(container(running=running())),
        status(container(terminated=ended(3))),
        status(container(restarts=1, last=ended(3), running=running())),
        status(container(restarts=1, last=ended(3), terminated=ended(4))),
        status(container(restarts=1, last=ended(4), waiting=back_off)),
        status(container(restarts=2, last=ended(4), running=running())),
    ) == [
        f"Starting process of image {IMAGE}",
        "Process exited with status 3",
        "State changed from starting to crashed",
        "State changed from crashed to starting",
        f"Starting process of image {IMAGE}",
        "Process exited with status 4",
        "State changed from starting to crashed",
        "Process starts again after a pause of 10s",
        "State changed from crashed to starting",
        f"Starting process of image {IMAGE}",
    ]


def test_a_restart_that_was_over_before_anybody_looked_is_said_all_the_same() -> None:
    up = status(container(running=running()), ready=True)
    again = status(container(restarts=1, last=ended(1), running=running(20)), ready=True, at=21)
    assert story(up, again)[2:] == [
        "Process exited with status 1",
        "State changed from up to crashed",
        "State changed from crashed to starting",
        f"Starting process of image {IMAGE}",
        "State changed from starting to up",
    ]


def test_restarts_that_nobody_saw_are_counted() -> None:
    up = status(container(running=running()), ready=True)
    later = status(container(restarts=4, last=ended(1), running=running()), ready=True)
    assert story(up, later)[2:4] == ["Process was started again 3 times", "Process exited with status 1"]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (ended(137, reason="OOMKilled"), "Process exited with status 137: it took more memory than it may"),
        (ended(137), "Process exited with status 137 (SIGKILL)"),
        (ended(139), "Process exited with status 139 (SIGSEGV)"),
        (ended(1, signal=9), "Process exited with status 1 (SIGKILL)"),
        (ended(255), "Process exited with status 255"),
        (ended(0, reason="Completed"), "Process exited with status 0"),
    ],
)
def test_how_a_process_ended(how: dict[str, Any], text: str) -> None:
    assert text in story(status(container(running=running())), status(container(terminated=how)))


def test_what_keeps_a_process_from_starting_is_said_once() -> None:
    pull = "failed to pull and unpack image"
    assert story(
        status(container(waiting=waiting("ErrImagePull", pull)), phase="Pending"),
        status(container(waiting=waiting("ImagePullBackOff", "Back-off pulling image")), phase="Pending"),
        status(container(waiting=waiting("ErrImagePull", pull)), phase="Pending"),
    ) == [f"Image {IMAGE} can't be had: ErrImagePull: {pull}"]
    assert story(status(container(waiting=waiting("CreateContainerConfigError", 'secret "db" not found')))) == [
        'Process can\'t be started: CreateContainerConfigError: secret "db" not found'
    ]


def test_a_readiness_probe_that_fails_and_works_again() -> None:
    main = container(running=running())
    assert story(status(main, ready=True), status(main), status(main), status(main, ready=True))[2:] == [
        "State changed from up to unready: the readiness probe fails",
        "State changed from unready to up",
    ]


def test_an_eviction_says_why() -> None:
    evicted = status(phase="Failed", reason="Evicted", message="The node was low on resource: memory. " + "x" * 1000)
    text = story(status(container(running=running()), ready=True), evicted)[-1]
    assert text.startswith("State changed from up to crashed: Evicted: The node was low on resource: memory. xxx")
    assert len(text) < 600


def test_who_is_made_to_go_is_told_why_and_once() -> None:
    main = container(running=running())
    why = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment(1)}
    given = {"conditions": [ready, why]}
    assert story(
        status(main, ready=True),
        status(main, deleted=True, **given),
        status(container(terminated=ended(143)), deleted=True, **given),
    )[2:] == [
        "Stopping all processes with SIGTERM: EvictionByEvictionAPI: Eviction API: evicting",
        "Process exited with status 143 (SIGTERM)",
        "State changed from stopping to down",
    ]


def test_init_containers_speak_for_themselves_and_a_job_completes() -> None:
    done = ended(0, reason="Completed")
    pods = [
        status(container(waiting=waiting("PodInitializing")), init=(container("migrate", running=running()),)),
        status(container(waiting=waiting("PodInitializing")), init=(container("migrate", terminated=done),)),
        status(container(running=running()), init=(container("migrate", terminated=done),)),
        status(container(terminated=done), init=(container("migrate", terminated=done),), phase="Succeeded"),
    ]
    said, lines = None, list[Line]()
    for pod in pods:
        new, said = tell(said, pod)
        lines += new
    assert [(line.container, line.text) for line in lines] == [
        ("migrate", f"Starting process of image {IMAGE}"),
        ("migrate", "Process exited with status 0"),
        ("main", f"Starting process of image {IMAGE}"),
        ("main", "Process exited with status 0"),
        ("main", "State changed from starting to complete"),
    ]


def test_nothing_more_is_said_of_a_job_that_is_complete_when_it_is_deleted() -> None:
    over = container(terminated=ended(0))
    assert story(
        status(over, phase="Succeeded", restart="Never"), status(over, phase="Succeeded", restart="Never", deleted=True)
    )[-1:] == ["State changed from starting to complete"]


@pytest.mark.parametrize(
    ("restart", "how", "state"),
    [("Never", 0, "complete"), ("OnFailure", 0, "complete"), ("Never", 1, "crashed"), ("Always", 0, "crashed")],
)
def test_the_end_of_a_process_is_one_of_the_dyno_where_it_is_not_started_again(
    restart: str, how: int, state: str
) -> None:
    over = status(container(terminated=ended(how)), restart=restart)
    assert story(status(container(running=running())), over)[-1] == f"State changed from starting to {state}"


def test_an_end_is_said_behind_the_lines_of_its_run() -> None:
    lines, _ = tell(
        tell(None, status(container(running=running()), ready=True))[1], status(container(terminated=ended(1)))
    )
    assert [(line.text, line.after) for line in lines] == [
        ("Process exited with status 1", 0),
        ("State changed from up to crashed", 0),
    ]


def test_a_pod_that_vanishes_is_down_once() -> None:
    _, said = tell(None, status(container(running=running()), ready=True))
    lines, said = tell_gone(said, "main")
    assert [line.text for line in lines] == ["State changed from up to down"]
    assert tell_gone(said, "main")[0] == []


def test_what_happened_long_before_collection_began_is_not_said() -> None:
    old = status(container(restarts=7, last=ended(1), running=running()), ready=True)
    begin = PodStatus.of(
        manifests.pod(status={"conditions": [{"type": "Ready", "lastTransitionTime": moment(30)}]}), ""
    )
    lines, said = tell(None, old, since=begin.since)
    assert lines == []
    assert [line.text for line in tell(said, status(container(restarts=7, running=running())))[0]] == [
        "State changed from up to unready: the readiness probe fails"
    ]


codes = st.sampled_from([0, 1, 137, 143])
reasons = st.sampled_from(["ContainerCreating", "ErrImagePull", "CrashLoopBackOff", "CreateContainerError"])


@st.composite
def histories(draw: st.DrawFn) -> list[PodStatus]:
    """How one pod may go on: runs that start, end and are started again, seen now and then."""
    seen: list[PodStatus] = []
    last: dict[str, Any] | None = None
    for number in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            seen.append(status(container(restarts=max(number - 1, 0), last=last, waiting=waiting(draw(reasons)))))
        up = container(restarts=number, last=last, running=running())
        seen += [status(up, ready=ready) for ready in draw(st.lists(st.booleans(), max_size=3))]
        now = ended(draw(codes))
        if draw(st.booleans()):
            seen.append(status(container(restarts=number, last=last, terminated=now)))
        last = now
    if draw(st.booleans()):
        seen.append(status(container(restarts=number, terminated=now), deleted=True))
    return seen


@given(histories())
def test_whoever_goes_on_after_any_line_says_the_rest_and_nothing_twice(pods: list[PodStatus]) -> None:
    said: Said | None = None
    for pod in pods:
        lines, after = tell(said, pod)
        for number, line in enumerate(lines):
            # The collector is killed behind this line: the bus has it, and what was said with it.
            again, reached = tell(Said.decode(line.said.encode()), pod)
            assert [each.text for each in again] == [each.text for each in lines[number + 1 :]]
            assert reached == after
        said = after
        assert tell(said, pod) == ([], said)


@given(histories())
def test_states_follow_from_one_another(pods: list[PodStatus]) -> None:
    state = str(State.STARTING)
    for text in story(*pods):
        if text.startswith("State changed from "):
            before, _, after = text.removeprefix("State changed from ").partition(":")[0].partition(" to ")
            assert before == state != after
            state = after
        elif text.startswith("Stopping"):
            state = "stopping"


def test_what_was_said_is_read_as_it_was_written() -> None:
    said = Said(State.CRASHED, {"main": 13, "proxy": 1})
    assert Said.decode(said.encode()) == said
    assert Said.decode(NOTHING.encode()) == NOTHING
    with pytest.raises(ValueError, match="not a valid State"):
        Said.decode((("main", 1),))
