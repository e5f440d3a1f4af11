"""What the platform says of a pod: from what it has said and how the pod is now, to the lines between. No I/O.

What was said is kept with each line on the bus, so nobody says it again, however often a pod is listed and whoever
starts anew. States have Heroku's words. Source of a pod's status: the API reference of Kubernetes 1.34, `core/v1`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from signal import Signals
from typing import Any, Final, NamedTuple

from logsvc.sources.kubernetes.objects import Json

_MAX_TEXT: Final = 500
"""Characters of what others have to say in a line."""

_BACK_OFF: Final = re.compile(r"back-off (\S+) restarting")

_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_ON_ITS_WAY: Final = frozenset({"ContainerCreating", "PodInitializing", ""})


class State(IntEnum):
    """Of a dyno. The numbers are kept on the bus."""

    STARTING = 0
    UP = 1
    UNREADY = 2
    """It runs, but its readiness probe fails."""
    CRASHED = 3
    STOPPING = 4
    DOWN = 5
    COMPLETE = 6

    def __str__(self) -> str:
        return self.name.lower()


_ENDED: Final = frozenset({State.DOWN, State.COMPLETE})


class Step(IntEnum):
    """How far one run of a container has come. The numbers are kept on the bus."""

    WAITING = 0
    """Something keeps it from starting."""
    STARTED = 1
    EXITED = 2
    PAUSING = 3
    """Something keeps it from being started again."""


_STEPS: Final = 4


class Said(NamedTuple):
    """What was said of a pod so far."""

    state: State
    steps: Mapping[str, int]
    """By container: runs before, times four, and its step."""

    def encode(self) -> tuple[tuple[str, int], ...]:
        """Names and numbers, the state without a name."""
        return (("", int(self.state)), *sorted(self.steps.items()))

    def has_ended(self, container: str, run: int) -> bool:
        """Whether it was said of this run, and of no later one, that it is over."""
        number, step = divmod(self.steps.get(container, -1), _STEPS)
        return number == run and step in {Step.EXITED, Step.PAUSING}

    @classmethod
    def decode(cls, pairs: Sequence[tuple[str, int]]) -> "Said":
        """From `encode`. Raises ValueError."""
        steps = dict(pairs)
        return cls(State(steps.pop("", -1)), steps)


NOTHING: Final = Said(State.STARTING, {})


class Exit(NamedTuple):
    """How a run ended."""

    status: int
    signal: int
    """Given by few runtimes; 0 where it isn't."""
    reason: str
    at: float

    def __str__(self) -> str:
        if self.reason == "OOMKilled":
            return f"Process exited with status {self.status}: it took more memory than it may"
        number = self.signal or (self.status - 128 if self.status > 128 else 0)
        name = f" ({Signals(number).name})" if number in _SIGNALS else ""
        return f"Process exited with status {self.status}{name}"


_SIGNALS: Final = frozenset(int(signal) for signal in Signals)


class Run(NamedTuple):
    """A container as it is now."""

    name: str
    image: str
    number: int
    """Of the run: 0, and one more with each restart."""
    started: float | None
    """Unix s; None while it waits."""
    exit: Exit | None
    before: Exit | None
    """Of the run before."""
    waits: str
    """Reason for which it isn't started; empty where there is none."""
    message: str


class PodStatus(NamedTuple):
    """A pod as it is now."""

    main: str
    state: State
    since: float
    """When its conditions changed last, Unix s."""
    why: str
    """What is to be said with the state, in the platform's words."""
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, pod: Json, main: str) -> "PodStatus":
        """`main`: the container that the pod is there for. Raises KeyError for what isn't a pod."""
        status = pod["status"]
        given = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
        runs = tuple(map(_run, given))
        ready = _condition(status, "Ready")
        since = max((_time(each.get("lastTransitionTime")) for each in status.get("conditions") or ()), default=0.0)
        state, why = _state(pod, main, runs, ready=ready.get("status") == "True")
        return cls(main, state, since, why, runs)


def _state(pod: Json, main: str, runs: Sequence[Run], *, ready: bool) -> tuple[State, str]:
    status = pod["status"]
    own = next((run for run in runs if run.name == main), None)
    if "deletionTimestamp" in pod["metadata"]:
        # First of all: one that is being stopped ends in the phase Succeeded or Failed, as its process exits.
        # Why, where it was not its owner who deleted it: an eviction, a taint of its node, a dyno that matters more.
        why = _cause(_condition(status, "DisruptionTarget"))
        return (State.DOWN if runs and not any(map(_is_running, runs)) else State.STOPPING), why
    if status.get("phase") == "Succeeded":
        return State.COMPLETE, ""
    if status.get("phase") == "Failed":
        # Without a reason a container has failed, and its own line says how.
        return State.CRASHED, _cause(status)
    if own is not None and own.exit is not None:
        again = pod["spec"].get("restartPolicy", "Always") == "Always"
        return (State.CRASHED if own.exit.status or again else State.COMPLETE), ""
    if ready:
        return State.UP, ""
    # One that has no readiness probe is ready as soon as it runs.
    return State.STARTING, ""


def _cause(given: Json) -> str:
    """Reason and message, in the platform's words."""
    reason = given.get("reason") or ""
    return f"{reason}: {cut(given.get('message') or '')}".removesuffix(": ") if reason else ""


def _is_running(run: Run) -> bool:
    return run.started is not None and run.exit is None


def _run(status: Json) -> Run:
    state = status.get("state") or {}
    before = (status.get("lastState") or {}).get("terminated") or {}
    running, ended, waiting = state.get("running"), state.get("terminated"), state.get("waiting") or {}
    started = _time((running or ended or {}).get("startedAt")) if running or ended else None
    exit_ = _exit(ended)
    last = _exit(before)
    number = status.get("restartCount", 0)
    if started is None and last is not None:
        # What waits to be started again is counted as the run that ended.
        started, exit_, last = _time(before.get("startedAt")), last, None
    return Run(
        status["name"],
        status.get("image", ""),
        number,
        started,
        exit_,
        last,
        waiting.get("reason", ""),
        cut(waiting.get("message", "")),
    )


def _exit(ended: Any) -> Exit | None:
    if not ended:
        return None
    return Exit(ended["exitCode"], ended.get("signal", 0), ended.get("reason", ""), _time(ended.get("finishedAt")))


class Line(NamedTuple):
    """Something to say."""

    container: str
    """Whose process it is said of."""
    text: str
    after: int | None
    """The run whose lines come before it, all of them; None where it follows none."""
    said: Said
    """What was said, with this."""

    @property
    def run(self) -> int:
        """The run of the container that it is said of."""
        return self.said.steps.get(self.container, 0) // _STEPS


def tell(said: Said | None, pod: PodStatus, since: float = 0.0) -> tuple[list[Line], Said]:
    """The lines that lead to how `pod` is now, and what was said with them.

    `said`: what was said of it so far, None of one that is new. Of a new one, what happened before `since` (Unix s) is
    not said any more, and counts as said.
    """
    teller = _Teller(said or NOTHING, 0.0 if said else since)
    for run in pod.runs:
        teller.run(run, pod)
    teller.state(pod)
    return teller.lines, teller.said


def tell_gone(said: Said, main: str) -> tuple[list[Line], Said]:
    """The pod is not there any more."""
    teller = _Teller(said, 0.0)
    if said.state not in _ENDED and said.state is not State.CRASHED:
        teller.change(main, State.DOWN, "", None)
    return teller.lines, teller.said


class _Teller:
    """Puts together what is said of one pod in one go."""

    def __init__(self, said: Said, since: float) -> None:
        self.lines: list[Line] = []
        self.said = said
        self._since = since

    def run(self, run: Run, pod: PodStatus) -> None:
        """What has become of a container."""
        last = self._last(run)
        known = max(last // _STEPS, 0)
        if run.before is not None and last < (run.number - 1) * _STEPS + Step.EXITED:
            if run.number - 1 > known:
                text = f"Process was started again {_times(run.number - 1 - known)}"
                self._say(run, run.number - 1, Step.STARTED, text, run.before.at)
            self._say(run, run.number - 1, Step.EXITED, str(run.before), run.before.at)
        if run.name == pod.main and run.started is not None:
            self._started_again(run)
        for step, text, at in _steps(run):
            if self._last(run) < run.number * _STEPS + step:
                self._say(run, run.number, step, text, at)

    def _last(self, run: Run) -> int:
        return self.said.steps.get(run.name, -1)

    def _started_again(self, run: Run) -> None:
        """It may run again before anybody saw it down; that it was is not to go unsaid."""
        number, step = divmod(self._last(run), _STEPS)
        if step < Step.EXITED or number >= run.number:
            return
        if self.said.state in {State.UP, State.UNREADY}:
            self.change(run.name, State.CRASHED, "", number, run.started)
        if self.said.state is State.CRASHED:
            self.change(run.name, State.STARTING, "", None, run.started)

    def state(self, pod: PodStatus) -> None:
        """What has become of the dyno."""
        state = pod.state
        if state is State.STARTING and self.said.state in {State.UP, State.UNREADY}:
            own = next((run for run in pod.runs if run.name == pod.main), None)
            state = State.UNREADY if own is not None and _is_running(own) else State.STARTING
        if state is not self.said.state and not (state in {State.STOPPING, State.DOWN} and self.said.state in _ENDED):
            after = next((run.number for run in pod.runs if run.name == pod.main), None)
            ended = state in {State.CRASHED, State.DOWN, State.COMPLETE}
            self.change(pod.main, state, pod.why, after if ended else None, pod.since)

    def change(self, main: str, state: State, why: str, after: int | None, at: float | None = None) -> None:
        """Say that the dyno goes over to `state`."""
        before, self.said = self.said.state, self.said._replace(state=state)
        if state is State.STOPPING:
            text = "Stopping all processes with SIGTERM" + (f": {why}" if why else "")
        elif state is State.UNREADY:
            text = f"State changed from {before} to {state}: the readiness probe fails"
        else:
            # Why it was stopped was said when it was.
            text = f"State changed from {before} to {state}" + (
                f": {why}" if why and before is not State.STOPPING else ""
            )
        self._add(main, text, after, at)

    def _say(self, run: Run, number: int, step: Step, text: str, at: float) -> None:
        self.said = self.said._replace(steps={**self.said.steps, run.name: number * _STEPS + step})
        self._add(run.name, text, number if step in {Step.EXITED, Step.PAUSING} else None, at)

    def _add(self, container: str, text: str, after: int | None, at: float | None) -> None:
        if at is None or at >= self._since:
            self.lines.append(Line(container, text, after, self.said))


def _steps(run: Run) -> Iterator[tuple[Step, str, float]]:
    """What can be said of the run as it is, in order."""
    if run.started is None:
        if run.waits not in _ON_ITS_WAY:
            yield Step.WAITING, _hindrance(run), float("inf")
        return
    yield Step.STARTED, f"Starting process of image {run.image}", run.started
    if run.exit is not None:
        yield Step.EXITED, str(run.exit), run.exit.at
        if run.waits not in _ON_ITS_WAY:
            yield Step.PAUSING, _hindrance(run), float("inf")


def _hindrance(run: Run) -> str:
    if run.waits == "CrashLoopBackOff":
        pause = _BACK_OFF.search(run.message)
        return f"Process starts again after a pause of {pause[1]}" if pause else "Process starts again after a pause"
    why = f"{run.waits}: {run.message}" if run.message else run.waits
    return f"Image {run.image} can't be had: {why}" if run.waits in _IMAGE else f"Process can't be started: {why}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _condition(status: Json, kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each["type"] == kind), {})


def _time(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def cut(text: str) -> str:
    """What others have to say, in one line that isn't too long."""
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
