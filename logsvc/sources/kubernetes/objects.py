"""Pods and namespaces as the API server describes them, cut down to what is needed of them. No I/O.

Source: the API reference of Kubernetes 1.34, `core/v1`. An object as JSON holds some 5 to 20 KiB; of thousands of them
only this is kept.
"""

from collections.abc import Container, Mapping
from typing import Any, Final, NamedTuple

from logsvc.sources.kubernetes.podlogs import Pod

Json = Mapping[str, Any]

_MIRROR: Final = "kubernetes.io/config.mirror"
"""On the pod that a kubelet shows for one of its own: below `/var/log/pods` it goes by this, not by its uid."""

_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"


class Owner(NamedTuple):
    """The controller of an object."""

    kind: str
    group: str
    """Of the API; empty for the core."""
    name: str

    @classmethod
    def of(cls, metadata: Json) -> "Owner | None":
        """The controller that `metadata.ownerReferences` name; None where there is none."""
        for reference in metadata.get("ownerReferences") or ():
            if reference.get("controller"):
                group, _, version = reference.get("apiVersion", "").rpartition("/")
                del version
                return cls(reference["kind"], group, reference["name"])
        return None


class Containers(NamedTuple):
    """The names of a pod's containers, by what they are for."""

    main: str
    """The one that the pod is there for."""
    init: frozenset[str]
    """Those that run to their end before it starts. All others are sidecars, ephemeral ones too."""


class PodObject(NamedTuple):
    """A pod."""

    folder: Pod
    """As its folder below `/var/log/pods` is named."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Owner | None
    containers: Containers

    @classmethod
    def of(cls, pod: Json, kept: Container[str]) -> "PodObject":
        """`kept`: which of its labels and annotations are needed. Raises KeyError for what isn't a pod."""
        metadata = pod["metadata"]
        annotations = metadata.get("annotations") or {}
        return cls(
            Pod(metadata["namespace"], metadata["name"], annotations.get(_MIRROR) or metadata["uid"]),
            _some(metadata.get("labels"), kept),
            _some(annotations, kept),
            Owner.of(metadata),
            _containers(pod["spec"], annotations.get(_DEFAULT_CONTAINER, "")),
        )


def _some(texts: Mapping[str, str] | None, kept: Container[str]) -> dict[str, str]:
    return {name: text for name, text in (texts or {}).items() if name in kept}


def _containers(spec: Json, default: str) -> Containers:
    names = [container["name"] for container in spec["containers"]]
    # One that is started again whenever it ends runs beside the others: KEP-753.
    init = [each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") != "Always"]
    return Containers(default if default in names else names[0], frozenset(init))


class Namespace(NamedTuple):
    """A namespace: a tenant, or a part of one."""

    name: str
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, namespace: Json, kept: Container[str]) -> "Namespace":
        """`kept` as of a pod; the namespace's metadata is enough. Raises KeyError for what isn't a namespace."""
        metadata = namespace["metadata"]
        return cls(metadata["name"], _some(metadata.get("annotations"), kept))
