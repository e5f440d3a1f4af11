"""Who wrote the files of a pods folder: kept beside it, so that what an earlier run left is still filed right.

    <data>/pods/<tenant>_<pod>_<uid>/<container>/<restart>.log     the kubelet's names
    <data>/identity/<uid>.json                                     written before the pod's folder

A pod is one dyno in one run of the runner, and its uid is never used twice.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from logsvc.model import Stream

LOG_NAME: Final = re.compile(r"(\d{1,9})\.log(?:\.|$)", re.ASCII)
"""A log file's name, rotated or not; group 1 is the restart count."""

_UID = re.compile(r"[0-9a-f-]{36}", re.ASCII)


class PodFolder(NamedTuple):
    """A folder below `pods`: `<namespace>_<pod>_<uid>`."""

    namespace: str
    pod: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}_{self.pod}_{self.uid}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a pod is."""

    uid: str
    pod: str
    container: str
    tenant: str
    app: str
    process: str
    dyno: str
    retention: int
    run: int
    """When the run began that started it, Unix ns; the same for all pods of a run."""

    @property
    def folder(self) -> PodFolder:
        return PodFolder(self.tenant, self.pod, self.uid)

    def write(self, folder: Path) -> None:
        """Write `<folder>/<uid>.json`, whole or not at all, and to the disk."""
        folder.mkdir(parents=True, exist_ok=True)
        torn = folder / f"{self.uid}.tmp"
        with torn.open("wb") as file:
            file.write(orjson.dumps(asdict(self)))
            file.flush()
            os.fsync(file.fileno())
        torn.rename(folder / f"{self.uid}.json")


def read_identity(folder: Path, uid: str) -> Identity | None:
    """The identity of a pod; None where there is none, or none that can be read."""
    if _UID.fullmatch(uid) is None:
        return None
    try:
        return Identity(**orjson.loads((folder / f"{uid}.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


class ProcfileIdentity:
    """Tells the files source whose a log file is, also where an earlier run wrote it."""

    def __init__(self, folder: Path) -> None:
        """`folder`: `<data>/identity`."""
        self._folder = folder
        self._known: dict[str, _Known] = {}

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | None:
        """The stream (source `app`) of `<namespace>_<pod>_<uid>/<container>/<restart>.log`.

        None where the runner didn't make that folder. Platform lines in the file are of the same stream with the
        source `platform`.
        """
        known = self._known.get(uid)
        if known is None:
            identity = read_identity(self._folder, uid)
            if identity is None:
                return None
            known = self._known[uid] = _Known(identity)
        if not known.wrote(namespace, pod, container):
            return None
        return known.stream(restart)

    def folder(self, uid: str) -> None:
        """The runner deletes no log before it is collected, so nothing is missing of one that is gone."""

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a pod whose folder is gone."""
        self._known.pop(uid, None)


class _Known:
    """A pod, and the stream of its newest incarnation, as it is asked for with every chunk."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._restart = -1
        self._stream: Stream | None = None

    def wrote(self, namespace: str, pod: str, container: str) -> bool:
        identity = self._identity
        return namespace == identity.tenant and pod == identity.pod and container == identity.container

    def stream(self, restart: int) -> Stream:
        if self._stream is None or self._restart != restart:
            identity = self._identity
            self._restart = restart
            self._stream = Stream(
                tenant=identity.tenant,
                app=identity.app,
                process=identity.process,
                dyno=identity.dyno,
                source="app",
                incarnation=f"{identity.uid}/{restart}",
                retention=identity.retention,
            )
        return self._stream


def prune(pods: Path, identities: Path, collected: Callable[[Path], bool], keep_runs: int = 2) -> list[str]:
    """Remove the pod folders of earlier runs, the newest `keep_runs` runs excepted; returns the uids removed.

    A folder goes only where `collected` is true of each of its log files: every byte of it is in the bus. So what
    waits for a collector that is behind stays, and goes at a later start. Call it before the runner starts, or in a
    thread. A second call after a crash finishes what the first began.
    """
    known = list(read_identities(identities))
    kept = set(sorted({identity.run for identity in known}, reverse=True)[: max(keep_runs, 0)])
    removed = []
    for identity in known:
        folder = pods / str(identity.folder)
        if identity.run in kept or not all(map(collected, _logs(folder))):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            (identities / f"{identity.uid}.json").unlink(missing_ok=True)
            removed.append(identity.uid)
    return removed


def read_identities(folder: Path) -> Iterator[Identity]:
    """The identities that can be read, in no order."""
    for path in folder.glob("*.json"):
        if (identity := read_identity(folder, path.stem)) is not None:
            yield identity


def _logs(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*/*") if LOG_NAME.match(path.name) and path.suffix != ".tmp")
