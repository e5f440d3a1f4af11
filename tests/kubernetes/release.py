"""logsvc in a cluster as Helm installs it there, and a way to its Service from the node."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.client.program import PAAS, environment
from tests.support import Tally
from tests.support.helm import CHART, helm
from tests.support.kubernetes import Kubernetes
from tests.support.program import Program
from tests.support.tcp import forward, listening

ROLES: Final = ("collect", "rollouts", "store", "drain", "serve")
_API: Final = 8080
_WAIT: Final = ("--wait", "--timeout", "7m")


class Release:
    """The chart's objects in a namespace of their own."""

    name = "logs"

    def __init__(self, kubernetes: Kubernetes, values: Mapping[str, Any]) -> None:
        self.kubernetes = kubernetes
        self.namespace = f"logs-{secrets.token_hex(4)}"
        self._values = values

    def prepare(self, variables: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Make the namespace and the Secrets `logsvc` and `logsvc-files`, which are not the chart's."""
        metadata = {"namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret"}
        self.kubernetes.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}},
            {**secret, "metadata": {**metadata, "name": "logsvc"}, "stringData": dict(variables)},
            {**secret, "metadata": {**metadata, "name": "logsvc-files"}, "stringData": dict(files)},
        )

    def install(self, *changes: str) -> None:
        """With `name=value`s; returns once every pod is ready."""
        self._helm("install", self.name, str(CHART), "--set-string", ",".join(changes), *_WAIT, values=self._values)

    def upgrade(self, *changes: str) -> None:
        """The same with `name=value`s; returns once every pod is one of the new ones, and ready."""
        self._helm("upgrade", self.name, str(CHART), "--set-string", ",".join(changes), *_WAIT, values=self._values)

    def uninstall(self) -> None:
        """Returns once what Helm made is gone; what others made of that goes by and by."""
        self._helm("uninstall", self.name, "--ignore-not-found", *_WAIT)

    def _helm(self, *arguments: str, values: Mapping[str, Any] | None = None) -> None:
        where = ("--kubeconfig", str(self.kubernetes.config), "--namespace", self.namespace)
        done = helm(*arguments, *where, values=values)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.troubles()}"

    def kubectl(self, *arguments: str) -> str:
        return self.kubernetes.kubectl("-n", self.namespace, *arguments)

    def troubles(self) -> str:
        """What there is to see of pods, for a test that failed."""
        texts = [self.kubectl("get", "pods", "-o", "wide")]
        texts.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp"))
        for role in ("migrate", *ROLES):
            chosen = f"app.kubernetes.io/component={role}"
            texts.append(self.kubectl("logs", "-l", chosen, "--tail=20", "--prefix", "--ignore-errors"))
        return "\n".join(texts)

    def pods(self, role: str = "") -> list[dict[str, Any]]:
        """Of one role or of all, those that are about to go as well."""
        chosen = f"app.kubernetes.io/instance={self.name}" + (f",app.kubernetes.io/component={role}" if role else "")
        items: list[dict[str, Any]] = self.kubernetes.get("pods", "-n", self.namespace, "-l", chosen)["items"]
        return items

    def images(self) -> set[str]:
        """What all pods run."""
        return {container["image"] for pod in self.pods() for container in pod["spec"]["containers"]}

    def endpoint(self) -> str | None:
        """The address of a pod that the Service sends requests to, or None while there is none."""
        chosen = f"kubernetes.io/service-name={self.name}-serve"
        slices = self.kubernetes.get("endpointslices", "-n", self.namespace, "-l", chosen)["items"]
        ends = [end for each in slices for end in each["endpoints"] or () if end["conditions"]["ready"]]
        return str(random.choice(ends)["addresses"][0]) if ends else None


class Address:
    """Where the Service is reached from the node; the cluster has no kube-proxy that would do this."""

    def __init__(self, release: Release) -> None:
        self.url = ""
        self.connections = 0
        self._release = release

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send one connection to one of the pods that are ready at this moment."""
        address = await asyncio.to_thread(self._release.endpoint)
        if address is None:
            return
        try:
            upstream, request = await asyncio.open_connection(address, _API)
        except OSError:
            return
        self.connections += 1
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(forward(reader, request))
                await forward(upstream, writer)
                asking.cancel()
        finally:
            request.close()


@asynccontextmanager
async def reached(release: Release) -> AsyncIterator[Address]:
    address = Address(release)
    async with listening(address.connected) as port:
        address.url = f"http://127.0.0.1:{port}"
        yield address


class Tailing(Program):
    """`paas logs --tail`, and what it has printed."""

    def __init__(self, folder: Path, url: str, token: str, app: str) -> None:
        super().__init__(folder)
        self._url, self._token, self._app = url, token, app
        self._at = 0
        self.lines: list[str] = []
        """Whole ones, in order."""
        self.tally = Tally()

    @property
    def command(self) -> list[str]:
        return [PAAS, "logs", "--tail", "-a", self._app]

    @property
    def environment(self) -> dict[str, str]:
        return environment(self._url, PAAS_TOKEN=self._token)

    def look(self) -> Tally:
        """Take what was printed since the last look."""
        with (self.folder / "stdout").open("rb") as file:
            file.seek(self._at)
            text, newline, _ = file.read().rpartition(b"\n")
        self._at += len(text) + len(newline)
        self.lines += text.decode().split("\n") if newline else []
        self.tally.feed(text)
        return self.tally

    def prints(self, text: str) -> bool:
        """Whether a line with this text has come."""
        self.look()
        return any(text in line for line in self.lines)
