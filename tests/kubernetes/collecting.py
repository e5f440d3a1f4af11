"""`logsvc collect` on the node of a real Kubernetes, pods that write numbered lines, and what came to the bus."""

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from logsvc.bus.kafka import KafkaBus
from logsvc.model import Chunk, Stream
from tests.support import Tally
from tests.support.kubernetes import Kubernetes
from tests.support.roles import Platform, Role

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "localhost/busybox:1"

_WRITER: Final = """
trap stop=1 TERM
mkfifo /tmp/out
tee -a /counts/text/$WRITER </tmp/out &
tee=$!
exec >/tmp/out
next=$(cat /counts/$WRITER 2>/dev/null || echo 0)
end=$((next + LINES))
while [ -z "$stop" ] && [ $next -lt $end ] && [ ! -e /counts/stop ]; do
  batch=0
  while [ $batch -lt $BATCH ]; do
    if [ -n "$HALF" ]; then printf 'writer=%s seq=%s cut' $WRITER $next; usleep $HALF; echo " $PAD"
    else echo "writer=$WRITER seq=$next $PAD"; fi
    next=$((next + 1)); batch=$((batch + 1))
  done
  usleep $PAUSE
  while [ -n "$GATE" ] && [ -z "$stop" ] && [ ! -e /counts/$GATE ]; do usleep 50000; done
done
exec >/dev/null
until wait $tee; do :; done
echo $next >/counts/$WRITER.new; mv /counts/$WRITER.new /counts/$WRITER
[ -n "$stop" ] || [ -n "$CRASH" ] || { sleep 1000000 & wait; }
exit ${CRASH:-0}
"""
"""What it writes goes into a file on the node as well, and its count, when it is done and when it is told to stop.

All are done when there is a file `stop`.
"""


def writer(
    name: str, *, lines: int = 1_000_000_000, batch: int = 50, pause: int = 10_000, pad: int = 100, **more: object
) -> dict[str, Any]:
    """A container; `pause` between batches in µs, `half` in the middle of each line, `crash`: its status at the end.

    `gate`: a file that it waits for behind the first batch.
    """
    given = {"WRITER": name, "LINES": lines, "BATCH": batch, "PAUSE": pause, "PAD": "x" * pad}
    given |= {key.upper(): value for key, value in more.items()}
    return {
        "name": "main",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", _WRITER],
        "env": [{"name": key, "value": str(value)} for key, value in given.items()],
        "volumeMounts": [{"name": "counts", "mountPath": "/counts"}],
    }


def saying(text: str, name: str = "main", *, then: str = "sleep 1000000 & wait") -> dict[str, Any]:
    """A container that says one thing."""
    return {"name": name, "image": IMAGE, "command": ["/bin/sh", "-c", f"trap 'exit 0' TERM; echo {text}; {then}"]}


_PART: Final = 16 * 1024
"""Bytes of a line that the runtime writes as one."""

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d+Z")
_WRITTEN: Final = re.compile(rf"^({TIME.pattern}) \S+ \S (?:writer=\S+ seq=(\d+) )?", re.MULTILINE)


class _Gap(NamedTuple):
    """Lines of a dyno that are missing, or may be, between two times, which have no `Z`: so they compare."""

    dyno: str
    lines: int
    begin: str
    end: str

    def covers(self, gap: "_Gap") -> bool:
        """Whether this is of the same dyno and the same time."""
        return self.dyno == gap.dyno and self.begin <= gap.begin and gap.end <= self.end


def _merged(notices: Iterable[_Gap]) -> list[_Gap]:
    """Those of a dyno that meet as one: a file may be lost between two looks that find another one gone each."""
    merged: list[_Gap] = []
    for notice in sorted(notices):
        last = merged[-1] if merged else None
        if last is not None and last.dyno == notice.dyno and notice.begin <= last.end:
            merged[-1] = last._replace(end=max(last.end, notice.end))
        else:
            merged.append(notice)
    return merged


class Namespace:
    """A tenant's pods, which count on the node what they write."""

    def __init__(self, kubernetes: Kubernetes, folder: Path) -> None:
        """Nothing is made in the cluster yet; counts are below `folder`."""
        self.kubernetes = kubernetes
        self.namespace = f"acme-{secrets.token_hex(4)}"
        self.counts = folder / "counts"
        self._written = self.counts / "text"
        self._written.mkdir(parents=True, exist_ok=True)

    def make(self, **annotations: str) -> None:
        given = {f"logsvc/{key}": text for key, text in annotations.items()}
        metadata = {"name": self.namespace, "annotations": given}
        self.kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def spec(self, *containers: dict[str, Any], **more: Any) -> dict[str, Any]:
        counts = {"name": "counts", "hostPath": {"path": str(self.counts)}}
        fields = {"terminationGracePeriodSeconds": 20, "containers": [*containers], "volumes": [counts]}
        return {**fields, "automountServiceAccountToken": False, **more}

    def metadata(self, name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "namespace": self.namespace, **more}

    def pod(self, name: str, *containers: dict[str, Any], labels: dict[str, str] | None = None, **more: Any) -> None:
        metadata = self.metadata(name, labels=labels or {})
        self.kubernetes.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec(*containers, **more)}
        )

    def controlled(self, kind: str, name: str, *containers: dict[str, Any], **more: Any) -> None:
        """A Deployment or StatefulSet; `labels`, `replicas`, the rest is of the pod."""
        labels = {"own": name, **more.pop("labels", {})}
        spec = {
            "replicas": more.pop("replicas", 1),
            "selector": {"matchLabels": {"own": name}},
            "template": {"metadata": {"labels": labels}, "spec": self.spec(*containers, **more)},
        }
        self.kubernetes.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": self.metadata(name), "spec": spec})

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return self.kubernetes.kubectl("-n", self.namespace, *arguments, given=given)

    def written(self, *names: str) -> dict[str, int] | None:
        """What writers have counted; None while one of them isn't done."""
        files = [self.counts / name for name in names]
        if not all(file.exists() for file in files):
            return None
        return {file.name: int(file.read_text()) for file in files}

    def counted(self) -> set[str]:
        """Names of the writers that were done once, or are."""
        return {file.name for file in self.counts.iterdir() if file.is_file() and not file.suffix}

    def running(self) -> list[str]:
        """Names of the pods that run now."""
        pods = self.kubernetes.get("pods", "-n", self.namespace, "--field-selector=status.phase=Running")["items"]
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def lines_written(self) -> int:
        """By all writers up to now."""
        return sum(file.read_bytes().count(b"\n") for file in self._written.iterdir())

    def text(self, name: str) -> list[bytes]:
        """The lines that a writer wrote, all of them once it is done."""
        return (self._written / name).read_bytes().splitlines()


class Collecting(Namespace):
    """One node, one collector, one namespace."""

    def __init__(self, kubernetes: Kubernetes, platform: Platform, bus: KafkaBus, source: str) -> None:
        super().__init__(kubernetes, platform.folder)
        self.source = source
        self._tenants = {self.namespace}
        self.platform = platform
        self._bus = bus
        self._read: dict[int, int] = {}
        """Where to go on reading, by partition."""
        self._chunks: list[Chunk] = []
        self._tally = Tally()
        self._tallied = 0

    def begin(self, **annotations: str) -> None:
        """Make the namespace, and the service account with the rights that the documentation names."""
        name = "logsvc-collect" if self.source == "files" else f"logsvc-collect-{self.source}"
        parts = (ROOT / "docs" / "operations.md").read_text().split("```")
        (rights,) = [part for part in parts if f"kind: ClusterRole\nmetadata: {{name: {name}}}" in part]
        self.make(**annotations)
        self.kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "collect", "namespace": self.namespace},
            }
        )
        self.kubectl("apply", "-f", "-", given=rights.removeprefix("yaml"))
        self._bind("ClusterRole", name, {"name": f"collect-{self.namespace}"})
        if "kind: Role\n" in rights:
            self._bind("Role", name, self.metadata(name))

    def neighbour(self, **annotations: str) -> Namespace:
        """Another tenant's pods, whose writers count beside these; what of them comes is among these as well."""
        other = Namespace(self.kubernetes, self.platform.folder)
        other.make(**annotations)
        self._tenants.add(other.namespace)
        return other

    def _bind(self, kind: str, name: str, metadata: dict[str, Any]) -> None:
        group = "rbac.authorization.k8s.io"
        self.kubernetes.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": "collect", "namespace": self.namespace}],
            }
        )

    def collector(self, replica: str = "node", **settings: object) -> Role:
        """`replica` names it among several."""
        kubernetes = self.kubernetes
        given = {
            **self.platform.settings,
            "kubernetes.source": self.source,
            **(
                {"kubernetes.node": kubernetes.node, "kubernetes.pods": kubernetes.pods}
                if self.source == "files"
                else {}
            ),
            "kubernetes.url": kubernetes.url,
            "kubernetes.account": kubernetes.account(self.platform.folder / "account", "collect", self.namespace),
            **{name.replace("_", ".", 1): value for name, value in settings.items()},
        }
        data = str(self.platform.folder / replica)
        return Role(self.platform.folder / f"collect-{replica}", ("collect", "--data", data), "logsvc collects", given)

    # ---- what is on the bus

    async def chunks(self) -> list[Chunk]:
        """All of these namespaces' up to now, in the order of each app."""
        for partition in range(self._bus.partitions):
            at, end = self._read.get(partition, 0), (await self._bus.bounds(partition)).end
            while at < end:
                _, chunks, at = await self._bus.read(partition, at, 1 << 22)
                self._chunks += [chunk for chunk in chunks if chunk.stream.tenant in self._tenants]
            self._read[partition] = at
        return self._chunks

    async def tally(self) -> Tally:
        """Of everything but notices."""
        chunks = await self.chunks()
        for chunk in chunks[self._tallied :]:
            if not chunk.stream.is_notice:
                self._tally.feed(chunk.value)
        self._tallied = len(chunks)
        return self._tally

    async def unannounced(self, written: Mapping[str, int]) -> list[str]:
        """Where lines of writers are missing and no notice says so of their dynos, which are called as they are."""
        gaps: list[_Gap] = []
        told: list[_Gap] = []
        last = dict.fromkeys(written, (0, ""))
        rest: dict[str, str] = {}
        """By writer, the time of a line without a number: the runtime had written its beginning to a file before."""
        counted: set[str] = set()
        """Writers of which a notice without times stands behind the last line: what is missing there it has counted."""
        for chunk in await self.chunks():
            if chunk.stream.is_notice:
                dyno, _, text = chunk.value.split(b" ", 3)[3].decode().partition(":")
                if not (times := TIME.findall(text)):
                    counted.add(dyno)
                    continue
                begin, end = ["", *times][-2:]
                told.append(_Gap(dyno, 0, begin.rstrip("Z"), end.rstrip("Z")))
            elif chunk.stream.source == "app":
                name = chunk.stream.dyno
                for stamp, number in _WRITTEN.findall(chunk.value.decode()):
                    time = stamp.rstrip("Z")
                    expected, before = last[name]
                    if not number:
                        # Another part of a long line has its time.
                        rest |= {name: time} if time > before else {}
                        continue
                    if int(number) > expected and name not in counted:
                        gaps.append(_Gap(name, int(number) - expected, before, rest.get(name) or time))
                    last[name] = int(number) + 1, time
                    rest.pop(name, None)
                    counted.discard(name)
        for name, count in written.items():
            if name in counted:
                continue
            done = datetime.fromtimestamp((self._written / name).stat().st_mtime, UTC).isoformat()
            gaps.append(_Gap(name, count - last[name][0], last[name][1], done))
        known = _merged(told)
        return [str(gap) for gap in gaps if gap.lines and not any(notice.covers(gap) for notice in known)]

    async def differing(self) -> list[bytes]:
        """Lines of writers that aren't, byte for byte, what their containers wrote under that number.

        Nor what a rotation leaves of it: the runtime writes a long line in parts, and one that waits for its end too,
        and those that are in another file the API server doesn't give.
        """
        begun: dict[str, bytes] = {}
        """Of lines that came in parts, by writer."""
        found = []
        written = {file.name: self.text(file.name) for file in self._written.iterdir()}
        for chunk in await self.chunks():
            if chunk.stream.source != "app":
                continue
            name = chunk.stream.dyno
            for line in chunk.value.splitlines():
                _, _, tag, text = line.split(b" ", 3)
                text = begun.pop(name, b"") + text
                if tag != b"F":
                    begun[name] = text
                elif text.startswith(b"writer="):
                    whole = written[name][int(text.split(b" ", 2)[1].removeprefix(b"seq="))]
                    rest = self.source == "api" and len(whole) > _PART and text.rstrip(b"x") == whole.rstrip(b"x")
                    if text != whole and not rest:
                        found.append(text)
                elif not any(whole.endswith(text) for whole in written[name]):
                    found.append(text)
        return found

    async def story(self, dyno: str) -> list[str]:
        """What the platform said of a dyno, in order."""
        said = [
            chunk for chunk in await self.chunks() if chunk.stream.source == "platform" and chunk.stream.dyno == dyno
        ]
        return [line.split(b" ", 3)[3].decode() for chunk in said for line in chunk.value.splitlines()]

    async def streams(self) -> set[Stream]:
        return {chunk.stream for chunk in await self.chunks()}

    async def notices(self) -> list[bytes]:
        return [chunk.value for chunk in await self.chunks() if chunk.stream.is_notice]
