"""Which rights collection needs, and what `logsvc check` says of them.

The API server is asked what it would allow (`authorization.k8s.io/v1`, SelfSubjectAccessReview), which every service
account may ask of itself.
"""

from typing import Final, Literal, NamedTuple

from logsvc.errors import ClusterError
from logsvc.findings import Finding
from logsvc.sources.kubernetes.apiserver import (
    ALL_JOBS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    LOGS,
    NAMESPACES,
    PODS,
    ApiServer,
    Resource,
    rule,
)

_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")

_KEEP_UP: Final = ("list", "watch")


class Right(NamedTuple):
    """What has to be allowed with a kind of objects."""

    resource: Resource
    verbs: tuple[str, ...]


_OF_THE_CLUSTER: Final = (
    Right(NAMESPACES, _KEEP_UP),
    Right(EVENTS, _KEEP_UP),
    Right(DEPLOYMENTS, _KEEP_UP),
    Right(ALL_JOBS, ("get", *_KEEP_UP)),
)

NEEDED: Final[dict[Literal["files", "api", "rollouts"], tuple[Right, ...]]] = {
    "files": (Right(NAMESPACES, _KEEP_UP), Right(PODS, _KEEP_UP), Right(ALL_JOBS, ("get",))),
    "rollouts": (*_OF_THE_CLUSTER, Right(PODS, ("get",))),
    "api": (
        *_OF_THE_CLUSTER,
        Right(PODS, ("get", *_KEEP_UP)),
        Right(LOGS, ("get",)),
        Right(LEASES, ("create", "get", "update")),
    ),
}
"""By source. Leases are those of the namespace that the process is in, all others of the cluster."""


async def check(api: ApiServer, source: Literal["files", "api", "rollouts"], namespace: str) -> list[Finding]:
    """Whether each right is there, and the rule that is missing. An API server that doesn't answer is a finding too."""
    try:
        return [await _look(api, right, namespace) for right in NEEDED[source]]
    except ClusterError as error:
        advice = "Look at kubernetes.url and kubernetes.account, and whether the API server can be reached from here."
        return [Finding("Kubernetes answers", False, str(error), "an answer of the API server", advice)]


async def _look(api: ApiServer, right: Right, namespace: str) -> Finding:
    resource, verbs = right
    where = namespace if resource is LEASES else ""
    allowed = [verb for verb in verbs if await _may(api, resource, verb, where)]
    todo = ""
    if missing := [verb for verb in verbs if verb not in allowed]:
        role = f"the Role in namespace {namespace}" if resource is LEASES else "the ClusterRole"
        todo = f"Add to the rules of {role}: {rule(resource, missing)}"
    found = ", ".join(allowed) or "none"
    return Finding(f"rights of {resource.name}", not missing, found, ", ".join(verbs), todo)


async def _may(api: ApiServer, resource: Resource, verb: str, namespace: str) -> bool:
    name, _, part = resource.name.partition("/")
    asked = {"group": resource.group, "resource": name, "verb": verb, "namespace": namespace}
    spec = {"resourceAttributes": asked | ({"subresource": part} if part else {})}
    item = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = await api.create(_REVIEWS, "", item)
    return answer is not None and answer["status"]["allowed"] is True
