"""Whose a container's log is: learned from a watch of this node's pods and of all namespaces.

A pod that is deleted is still known, for its last lines; what is known is kept on the disk, for those of a pod that is
deleted while the collector restarts.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from logsvc.errors import ClusterAway, ClusterError
from logsvc.model import Stream
from logsvc.sources.checked import CheckedFile
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.apiserver import JOBS, NAMESPACES, PODS, ApiServer
from logsvc.sources.kubernetes.follow import Follower
from logsvc.sources.kubernetes.lane import Unwanted
from logsvc.sources.kubernetes.naming import Filed, Rules, Tenant
from logsvc.sources.kubernetes.objects import Containers, Json, Namespace, Owner, PodObject
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.transitions import PodStatus
from logsvc.waiting import persist

_MOST_GONE: Final = 2_000
"""Deleted pods that are still known; the oldest are forgotten."""

_SAVE: Final = 1.0
"""Seconds between two saves."""

_VERSION: Final = 1

logger = logging.getLogger(__name__)


class _Known:
    """A pod, and the streams of its containers as they were asked for last."""

    __slots__ = ("head", "pod", "streams")

    def __init__(self, pod: PodObject, head: Owner | None) -> None:
        self.pod = pod
        self.head = head
        """Of its owners."""
        self.streams: dict[str, tuple[int, Tenant, Stream | Unwanted]] = {}
        """By container: restart, tenant, and what came of it."""


class PodIdentity:
    """Tells the files source whose a log file is. `run` it in a TaskGroup."""

    def __init__(
        self,
        api: ApiServer,
        node: str,
        rules: Rules,
        file: Path,
        *,
        patience: float = 30.0,
        mine: Callable[[Pod], bool] | None = None,
        clock: Callable[[], float],
    ) -> None:
        """`node` is the one whose pods are kept up with; empty for those of all, or of those that are `mine`. `file`
        keeps what is known.

        After `patience` seconds a pod that the API server doesn't know counts as gone.

        Blocks on the disk. Where the file can't be read, nothing is known at first.
        """
        self.listeners: Sequence[Callable[[], None]] = ()
        """Called when something isn't as it was."""
        self._api = api
        self._rules = rules
        self._file = CheckedFile(file, "list of pods")
        self._patience = patience
        self._mine = mine
        self._clock = clock
        self._tenants: dict[str, Tenant] = {}
        """By namespace."""
        self._namespaces: dict[str, str] = {}
        """Names by uid."""
        self._dissolved: set[str] = set()
        """Names of namespaces that are deleted, or may be."""
        self._pods: dict[Pod, _Known] = {}
        self._gone: dict[Pod, None] = {}
        """Deleted, the oldest first."""
        self._folders: dict[str, Pod] = {}
        """By uid of the object, which isn't always that of the folder."""
        self._headless: dict[Pod, PodObject] = {}
        """Known but for what is above their Job."""
        self._some_headless = asyncio.Event()
        self.statuses: dict[Pod, PodStatus] = {}
        """How every pod of the node is now."""
        self.parted: dict[Pod, PodStatus] = {}
        """How pods were when they went; for who looks at `stirred` to empty."""
        self.stirred: set[Pod] = set()
        """Pods that aren't as they were, or are gone; for who looks at `statuses` to empty."""
        self._asked: dict[Pod, float] = {}
        """When unknown pods were asked for first while the API server could be asked."""
        self._unsaved = False
        self._follow_pods = Follower(api, PODS, self._keep_pod, self._drop_pod, f"spec.nodeName={node}" if node else "")
        self._follow_namespaces = Follower(api, NAMESPACES, self._keep_namespace, self._drop_namespace)
        self._load()

    async def run(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_namespaces.run(), name="namespaces")
            tasks.create_task(self._follow_pods.run(), name="pods")
            tasks.create_task(self._continuous_look_ups(), name="owners")
            tasks.create_task(self._continuous_saves(), name="pods' list")

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | Unwanted | None:
        """As Identity has it: name, namespace and uid must all be those of one pod."""
        folder = Pod(namespace, pod, uid)
        known = self._pods.get(folder)
        tenant = self._tenants.get(namespace)
        if known is None or tenant is None:
            return self._unknown(folder, tenant, known, container, restart)
        last = known.streams.get(container)
        if last is None or last[0] != restart or last[1] is not tenant:
            filed = naming.file(known.pod, container, known.head, self._rules)
            last = known.streams[container] = restart, tenant, _stream(filed, tenant, uid, container, restart)
        return last[2]

    @property
    def pods(self) -> Iterator[PodObject]:
        """All that are known, those that are gone too."""
        return (known.pod for known in self._pods.values())

    def pod(self, folder: Pod) -> PodObject | None:
        """One of `pods`."""
        known = self._pods.get(folder)
        return known.pod if known is not None else None

    def folder(self, uid: str) -> Pod | None:
        """The folder with this uid, of one of `pods`."""
        return next((folder for folder in self._pods if folder.uid == uid), None)

    def plan(self, tenant: str) -> str:
        """The plan that the annotation of a tenant's namespace names; empty where there is none."""
        known = self._tenants.get(tenant)
        return known.plan if known is not None else ""

    @property
    def listed(self) -> bool:
        """Whether `statuses` has had every pod of the node."""
        return self._follow_pods.listed.is_set()

    # ---- what isn't known

    def _unknown(
        self, folder: Pod, tenant: Tenant | None, known: _Known | None, container: str, restart: int
    ) -> Stream | Unwanted | None:
        """The lines wait for as long as their pod may yet come to be known."""
        if self._may_come(folder):
            return None
        if tenant is None:
            tenant = naming.tenant_of(Namespace(folder.namespace, {}), self._rules)
        if known is None:
            filed: Filed | None = naming.file_unknown(folder, container)
        else:
            filed = naming.file(known.pod, container, known.head, self._rules)
        return _stream(filed, tenant, folder.uid, container, restart)

    def _may_come(self, folder: Pod) -> bool:
        now = self._clock()
        if len(self._asked) > _MOST_GONE:
            del self._asked[next(iter(self._asked))]
        connected = self._follow_pods.connected and self._follow_namespaces.connected
        if not connected or folder in self._headless:
            self._asked[folder] = now
            return True
        return now - self._asked.setdefault(folder, now) < self._patience

    # ---- what the API server tells

    def _keep_pod(self, item: Json) -> None:
        pod = PodObject.of(item, self._rules.needed)
        if self._mine is not None and not self._mine(pod.folder):
            return
        self._folders[item["metadata"]["uid"]] = pod.folder
        self._gone.pop(pod.folder, None)
        status = PodStatus.of(item, pod.containers.main)
        if self.statuses.get(pod.folder) != status:
            self.statuses[pod.folder] = status
            self.stirred.add(pod.folder)
            self._changed()
        known = self._pods.get(pod.folder)
        if known is not None and known.pod == pod:
            return
        controller = naming.controller_of(pod)
        if not naming.is_job(controller):
            self._know(pod, controller)
        elif known is not None and known.pod.owner == pod.owner:
            self._know(pod, known.head)
        else:
            self._headless[pod.folder] = pod
            self._some_headless.set()

    def _know(self, pod: PodObject, head: Owner | None) -> None:
        self._pods[pod.folder] = _Known(pod, head)
        self._asked.pop(pod.folder, None)
        self._unsaved = True
        self._changed()

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()

    def _drop_pod(self, uid: str) -> None:
        folder = self._folders.pop(uid, None)
        if folder is None:
            return
        self.parted[folder] = self.statuses.pop(folder)
        self.stirred.add(folder)
        self._changed()
        self._gone[folder] = None
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._gone) > _MOST_GONE:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            self._pods.pop(oldest, None)
            self.parted.pop(oldest, None)
            self._unsaved = True
        if len(self._dissolved) > _MOST_GONE:
            needed = {folder.namespace for folder in self._pods}
            for name in self._dissolved - needed:
                del self._tenants[name]
            self._dissolved &= needed
            self._unsaved = True

    def _keep_namespace(self, item: Json) -> None:
        namespace = Namespace.of(item, self._rules.needed)
        self._namespaces[item["metadata"]["uid"]] = namespace.name
        self._dissolved.discard(namespace.name)
        tenant = naming.tenant_of(namespace, self._rules)
        if self._tenants.get(namespace.name) != tenant:
            self._tenants[namespace.name] = tenant
            self._unsaved = True
            self._changed()

    def _drop_namespace(self, uid: str) -> None:
        """Lines of its pods may still come: it is forgotten after them, one day."""
        self._dissolved.add(self._namespaces.pop(uid))
        self._forget_oldest()

    # ---- what a pod doesn't tell of itself

    async def _continuous_look_ups(self) -> None:
        """Find out which Jobs are runs of a CronJob."""
        while True:
            await self._some_headless.wait()
            self._some_headless.clear()
            for folder, pod in list(self._headless.items()):
                controller = naming.controller_of(pod)
                assert controller is not None
                looking = partial(look_up, self._api, folder.namespace, controller)
                try:
                    head = await persist(looking, "the look at jobs", (ClusterAway,))
                except ClusterError as error:
                    logger.warning("the runs of a cron job are named after their jobs: %s", error)
                    head = controller
                newest = self._headless.pop(folder)
                self._know(newest, head)

    # ---- what outlives the collector

    async def _continuous_saves(self) -> None:
        while True:
            await asyncio.sleep(_SAVE)
            if self._unsaved:
                self._unsaved = False
                content = CheckedFile.encode(self._saved())
                try:
                    await asyncio.to_thread(self._file.save, content)
                except OSError as error:
                    self._unsaved = True
                    logger.warning("the list of pods can't be written: %s", error)

    def _saved(self) -> Json:
        return {
            "version": _VERSION,
            "tenants": {namespace: tuple(tenant) for namespace, tenant in self._tenants.items()},
            "pods": [_to_row(known) for known in self._pods.values()],
        }

    def _load(self) -> None:
        try:
            self._file.load(self._decode)
        except OSError as error:
            logger.warning("the list of pods can't be read: %s", error)

    def _decode(self, saved: Any) -> None:
        if saved["version"] != _VERSION:
            raise ValueError(f"its version is {saved['version']}")
        tenants = {namespace: Tenant(*fields) for namespace, fields in saved["tenants"].items()}
        pods = [_of_row(row, self._rules.needed) for row in saved["pods"]]
        # Until the API server tells that they are still there.
        self._tenants.update(tenants)
        self._dissolved.update(tenants)
        self._pods.update((known.pod.folder, known) for known in pods)
        self._gone.update((known.pod.folder, None) for known in pods)


async def look_up(api: ApiServer, namespace: str, job: Owner) -> Owner:
    """What is above a Job: the CronJob that it is a run of, else the Job. Raises ClusterError."""
    found = await api.get(JOBS, namespace, job.name)
    return (found and Owner.of(found["metadata"])) or job


def _stream(filed: Filed | None, tenant: Tenant, uid: str, container: str, restart: int) -> Stream | Unwanted:
    return Unwanted.LINES if filed is None else filed.stream(tenant, uid, container, restart)


def _to_row(known: _Known) -> tuple[Any, ...]:
    # orjson takes tuples, but not those with names.
    folder, labels, annotations, owner, containers = known.pod
    owners = [each and tuple(each) for each in (owner, known.head)]
    return tuple(folder), labels, annotations, *owners, containers.main, sorted(containers.init)


def _of_row(row: Any, kept: Container[str]) -> _Known:
    folder, labels, annotations, owner, head, main, init = row
    pod = PodObject(
        Pod(*folder),
        {name: text for name, text in labels.items() if name in kept},
        {name: text for name, text in annotations.items() if name in kept},
        Owner(*owner) if owner else None,
        Containers(main, frozenset(init)),
    )
    return _Known(pod, Owner(*head) if head else None)
