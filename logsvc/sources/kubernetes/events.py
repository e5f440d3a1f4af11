"""What the platform says of an Event of a pod: of what no pod's status tells. No I/O.

Source of an Event: the API reference of Kubernetes 1.34, `core/v1`; what the kubelet says of a probe is in
pkg/kubelet/prober/prober.go. What happens again is the same Event with a higher count; after an hour the API server
forgets it.
"""

import re
from datetime import datetime
from typing import Final, NamedTuple

from logsvc.sources.kubernetes.objects import Json
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.transitions import cut

SELECTOR: Final = "involvedObject.kind=Pod,type=Warning"
"""Of the Events among which they are."""

_PROBE: Final = "Unhealthy"
_NO_NODE: Final = "FailedScheduling"
_REASONS: Final = frozenset({_PROBE, _NO_NODE, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})

_PROBED: Final = re.compile(r"(Liveness|Readiness|Startup) probe (?:failed|errored)[^:]*: *(.*)")
_CONTAINER: Final = re.compile(r"spec\.\w*[cC]ontainers\{([a-z0-9-]+)\}")
_COMBINED: Final = "(combined from similar events): "


class Event(NamedTuple):
    """What happened to a pod, so many times by now."""

    pod: Pod
    container: str
    """Empty where it happened to the pod as a whole."""
    reason: str
    message: str
    times: int
    at: float
    """When it happened last, Unix s."""

    @classmethod
    def of(cls, item: Json) -> "Event | None":
        """None where nothing is to be said of it. Raises KeyError for what isn't an Event."""
        about = item["involvedObject"]
        reason = item.get("reason") or ""
        if about.get("kind") != "Pod" or reason not in _REASONS:
            return None
        series = item.get("series") or {}
        last = item.get("lastTimestamp") or series.get("lastObservedTime") or item.get("eventTime")
        container = _CONTAINER.fullmatch(about.get("fieldPath") or "")
        return cls(
            Pod(about.get("namespace", ""), about.get("name", ""), about.get("uid", "")),
            container[1] if container else "",
            reason,
            (item.get("message") or "").removeprefix(_COMBINED),
            item.get("count") or series.get("count") or 1,
            datetime.fromisoformat(last or item["metadata"]["creationTimestamp"]).timestamp(),
        )

    @property
    def is_probe(self) -> bool:
        """Whether a probe failed, so that the process runs."""
        return self.reason == _PROBE

    def tell(self, told: int) -> str | None:
        """What to say where it was said as of `told` times before; None where that will do.

        A probe may fail for hours: it is said the first time, and when it has failed twice as often.
        """
        if told and (not self.is_probe or self.times < 2 * told):
            return None
        message = cut(self.message)
        if self.is_probe:
            probed = _PROBED.fullmatch(message)
            what, why = (probed[1], probed[2]) if probed else ("The", message)
            again = f" {self.times} times" if self.times > 1 else ""
            return f"{what} probe failed{again}: {why}"
        if self.reason == _NO_NODE:
            return f"There is no room for the dyno: {message}"
        return f"Process can't be started: {self.reason}: {message}"
