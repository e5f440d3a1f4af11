"""Objects as the API server describes them."""

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
