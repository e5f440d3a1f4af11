"""What the platform says of a Deployment or a Job: from what was said and how it is now, to the lines between. No I/O.

As in transitions.py, what was said goes with each line. When a rollout is done is decided as `kubectl rollout status`
decides it (kubectl/pkg/polymorphichelpers/rollout_status.go, 1.34).
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from logsvc.sources.kubernetes.objects import Json

_REVISION: Final = "deployment.kubernetes.io/revision"


class Phase(IntEnum):
    """Of a rollout, or of a Job. The numbers are kept on the bus."""

    NEW = 0
    UNDER_WAY = 1
    STUCK = 2
    DONE = 3
    FAILED = 4


class Told(NamedTuple):
    """What was said of one object so far."""

    phase: Phase
    revision: int
    """Of a Deployment's rollout; 0 for a Job."""
    up: int
    """Of the revision: dynos that are up."""
    wanted: int
    """Dynos that there are to be; -1 where that was never said."""

    def encode(self) -> tuple[tuple[str, int], ...]:
        return tuple((name, int(value)) for name, value in self._asdict().items())

    @classmethod
    def decode(cls, pairs: Sequence[tuple[str, int]]) -> "Told":
        """From `encode`. Raises ValueError, TypeError."""
        fields = dict(pairs)
        return cls(Phase(fields.pop("phase", -1)), **fields)


class Line(NamedTuple):
    """Something to say, and what was said with it."""

    text: str
    told: Told


class DeploymentStatus(NamedTuple):
    """A Deployment as it is now."""

    revision: int
    images: str
    wanted: int
    up: int
    """Dynos of the revision that are up."""
    phase: Phase
    why: str
    """The platform's words for what is stuck."""

    @classmethod
    def of(cls, deployment: Json) -> "DeploymentStatus | None":
        """None where its controller hasn't seen yet what is wanted. Raises KeyError for what isn't a Deployment."""
        metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
        revision = (metadata.get("annotations") or {}).get(_REVISION, "")
        if status.get("observedGeneration", 0) < metadata.get("generation", 0) or not revision.isdigit():
            return None
        wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
        available, all_ = status.get("availableReplicas", 0), status.get("replicas", 0)
        progress = _condition(status, "Progressing")
        done = updated >= wanted and all_ <= updated and available >= updated
        stuck = progress.get("reason") == "ProgressDeadlineExceeded"
        phase = Phase.DONE if done else Phase.STUCK if stuck else Phase.UNDER_WAY
        # Those of the revision before are up as well while it goes on, and those that are about to go.
        up = max(min(updated, wanted, available - (all_ - updated)), 0)
        images = ", ".join(each.get("image", "") for each in spec["template"]["spec"]["containers"])
        return cls(int(revision), images, wanted, up, phase, progress.get("message", "") if stuck else "")


def tell_rollout(told: Told | None, now: DeploymentStatus, *, new: bool = True) -> tuple[list[Line], Told]:
    """The lines that lead to how the Deployment is now, and what was said with them.

    `told`: None of one that nothing was said of; where it isn't `new` either, nothing of it is said that is over.
    """
    if told is None:
        if not new and now.phase is Phase.DONE:
            return [], Told(Phase.DONE, now.revision, now.up, now.wanted)
        told = Told(Phase.NEW, 0, 0, -1)
    lines: list[Line] = []
    if now.revision != told.revision:
        told = Told(Phase.UNDER_WAY, now.revision, 0, now.wanted)
        lines.append(Line(f"Rollout of revision {now.revision} begins: {now.images}", told))
    if now.wanted != told.wanted:
        text = f"Scaled from {told.wanted} to {now.wanted} dynos"
        told = told._replace(wanted=now.wanted, phase=Phase.UNDER_WAY)
        lines.append(Line(text, told))
    if now.up != told.up and told.phase is not Phase.DONE and now.phase is not Phase.DONE:
        told = told._replace(up=now.up)
        lines.append(Line(f"Rollout of revision {now.revision}: {now.up} of {now.wanted} dynos are up", told))
    if now.phase is not told.phase and not (told.phase is Phase.DONE and now.phase is Phase.UNDER_WAY):
        told = told._replace(phase=now.phase, up=now.up)
        if now.phase is Phase.DONE:
            lines.append(
                Line(f"Rollout of revision {now.revision} is done: {now.up} of {now.wanted} dynos are up", told)
            )
        elif now.phase is Phase.STUCK:
            lines.append(Line(f"Rollout of revision {now.revision} is stuck: {now.why}", told))
        else:
            lines.append(Line(f"Rollout of revision {now.revision} goes on", told))
    return lines, told


class JobStatus(NamedTuple):
    """A Job as it is now."""

    name: str
    phase: Phase
    why: str

    @classmethod
    def of(cls, job: Json) -> "JobStatus":
        """Raises KeyError for what isn't a Job."""
        status = job.get("status") or {}
        failed = _condition(status, "Failed")
        if failed.get("status") == "True":
            return cls(job["metadata"]["name"], Phase.FAILED, failed.get("message", ""))
        if _condition(status, "Complete").get("status") == "True":
            return cls(job["metadata"]["name"], Phase.DONE, "")
        begun = "startTime" in status
        return cls(job["metadata"]["name"], Phase.UNDER_WAY if begun else Phase.NEW, "")


def tell_job(told: Told | None, now: JobStatus, *, new: bool = True) -> tuple[list[Line], Told]:
    """As `tell_rollout`, of a Job."""
    over = now.phase in {Phase.DONE, Phase.FAILED}
    if told is None and over and not new:
        return [], Told(now.phase, 0, 0, -1)
    told = told or Told(Phase.NEW, 0, 0, -1)
    lines: list[Line] = []
    if told.phase is Phase.NEW and now.phase is not Phase.NEW:
        told = told._replace(phase=Phase.UNDER_WAY)
        lines.append(Line(f"Job {now.name} begins", told))
    if told.phase is Phase.UNDER_WAY and over:
        told = told._replace(phase=now.phase)
        end = "is complete" if now.phase is Phase.DONE else f"has failed: {now.why}"
        lines.append(Line(f"Job {now.name} {end}", told))
    return lines, told


def _condition(status: Json, kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each["type"] == kind), {})
