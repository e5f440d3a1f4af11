"""A real Kubernetes of one node, for tests. This process joins its network, and what it starts from then on.

So the API server is at 127.0.0.1, and Kafka and ClickHouse are beside it. There is no way out of that network; what
needs one is run `outside`.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

_SCRIPT: Final = Path(__file__).parents[3] / "scripts" / "kubernetes.sh"
_RUN: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logsvc" / "kubernetes" / "run"
_CLONE_NEWNET: Final = 0x40000000
_OUTSIDE: Final = Path("/proc/self/ns/net").open("rb")  # noqa: SIM115 - kept for as long as this process lives
"""The network that this process was started in."""


class Kubernetes:
    """The cluster that is up."""

    node = "node1"
    url = "https://127.0.0.1"
    address = "10.88.0.1"
    """The node's own, at which pods reach what listens there."""
    pods = _RUN / "logs" / "pods"
    """The kubelet's /var/log/pods."""

    config = _RUN / "admin.kubeconfig"
    """For programs that talk to the API server as its administrator."""

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What `kubectl <arguments>` says, with `given` on stdin. Raises AssertionError if it fails."""
        return _run("kubectl", *arguments, given=given)

    def apply(self, *objects: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.kubectl("apply", "-f", "-", given=orjson.dumps(items).decode())

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def load(self, archive: Path, name: str, *others: str) -> None:
        """Have the node know the image `name` that an archive holds, by other names as well."""
        _run("image", str(archive))
        for other in others:
            _run("alias", name, other)

    def account(self, folder: Path, name: str, namespace: str = "default") -> Path:
        """A folder as pods have it of their service account, with a fresh token."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ca.crt").write_bytes((_RUN / "pki" / "ca.crt").read_bytes())
        (folder / "namespace").write_text(namespace)
        (folder / "token").write_text(self.kubectl("create", "token", name, "-n", namespace))
        return folder


def outside(*command: str) -> list[str]:
    """The command that runs `command` in the network that this process was started in."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_OUTSIDE.fileno()}", "--", *command]


@contextmanager
def started() -> Iterator[Kubernetes]:
    """A cluster with nothing in it, which is killed at the end; this process stays in its network."""
    _run("down")
    _run("up")
    try:
        _join(int((_RUN / "ns.pid").read_text()))
        yield Kubernetes()
    finally:
        _run("down")


def _join(pid: int) -> None:
    """os.setns is new in Python 3.12. Threads that run already stay where they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "the cluster's network can't be joined")


def _run(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run([_SCRIPT, *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout
