"""Objects as the API server describes them."""

from datetime import UTC, datetime
from typing import Any


def pod(
    name: str = "web-5d9c8b7f6-x2x7k",
    namespace: str = "acme",
    uid: str = "6f2d0c6e-6c55-4a0a-9a3e-0d6f0f1d7a11",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: tuple[str, str, str] | None = None,
    containers: tuple[str, ...] = ("main",),
    init: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    attached: tuple[str, ...] = (),
    status: dict[str, Any] | None = None,
    restart: str = "Always",
) -> dict[str, Any]:
    """A pod; `owner` is (apiVersion, kind, name), `beside` are init containers that go on."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1"}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    if owner is not None:
        version, kind, owner_name = owner
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "beside", "uid": "u0"},
            {"apiVersion": version, "kind": kind, "name": owner_name, "uid": "u1", "controller": True},
        ]
    spec: dict[str, Any] = {
        "nodeName": "node1",
        "containers": [{"name": each, "image": "shop:1"} for each in containers],
    }
    spec["restartPolicy"] = restart
    if init or beside:
        spec["initContainers"] = [
            *({"name": each, "image": "shop:1"} for each in init),
            *({"name": each, "image": "proxy:1", "restartPolicy": "Always"} for each in beside),
        ]
    if attached:
        spec["ephemeralContainers"] = [{"name": each, "image": "busybox:1"} for each in attached]
    return {"metadata": metadata, "spec": spec, "status": status or {"phase": "Pending"}}


def namespace(name: str = "acme", annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": "1", **({"annotations": annotations} if annotations else {})}}


def deployment(
    uid: str,
    revision: int,
    *,
    labels: dict[str, str],
    wanted: int = 2,
    up: int = 0,
    updated: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A Deployment `shop-web` of namespace acme, whose controller has seen what is wanted."""
    updated = up if updated is None else updated
    status = {"observedGeneration": 1, "replicas": updated, "updatedReplicas": updated, "availableReplicas": up}
    return {
        "metadata": {
            "name": "shop-web",
            "namespace": "acme",
            "uid": uid,
            "generation": 1,
            "creationTimestamp": "2020-01-01T00:00:00Z",
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
        },
        "spec": {
            "replicas": wanted,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": f"shop:{revision}"}]},
            },
        },
        "status": {**status, **more},
    }


def job(uid: str, *, labels: dict[str, str], owner: str = "", **status: Any) -> dict[str, Any]:
    """A Job `tidy-1` of namespace acme, that a CronJob `owner` may have made."""
    metadata: dict[str, Any] = {"name": "tidy-1", "namespace": "acme", "uid": uid}
    metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if owner:
        reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": owner, "uid": "c1", "controller": True}
        metadata["ownerReferences"] = [reference]
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "shop:1"}]}}
    return {"metadata": metadata, "spec": {"template": template}, "status": status}


def event(
    uid: str,
    message: str,
    reason: str = "Unhealthy",
    *,
    count: int = 1,
    container: str = "main",
    at: datetime | None = None,
    pod: tuple[str, str] = ("web-1", "u1"),
) -> dict[str, Any]:
    """An Event of a pod (name and uid) of namespace acme."""
    about = {"kind": "Pod", "namespace": "acme", "name": pod[0], "uid": pod[1]}
    if container:
        about["fieldPath"] = f"spec.containers{{{container}}}"
    time = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": f"web-1.{uid}", "namespace": "acme", "uid": uid, "creationTimestamp": time},
        "involvedObject": about,
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": time,
        "lastTimestamp": time,
    }
