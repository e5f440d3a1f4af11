"""Says in each app's timeline how rollouts and jobs go. Once in a cluster, whoever collects its logs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from logsvc.formats import cri
from logsvc.model import Origin, Stream
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.apiserver import ALL_JOBS, DEPLOYMENTS, NAMESPACES, ApiServer
from logsvc.sources.kubernetes.chronicle import OLD, SAID, Speaker
from logsvc.sources.kubernetes.follow import Follower
from logsvc.sources.kubernetes.naming import Rules, Tenant
from logsvc.sources.kubernetes.objects import Json, Namespace, Owner, PodObject
from logsvc.sources.kubernetes.rollouts import DeploymentStatus, JobStatus, Told, tell_job, tell_rollout

_FILE: Final = SAID + "rollout"

_PAUSE: Final = 0.1
"""Seconds until the next look at what can't be said yet."""


class _Seen(NamedTuple):
    """A Deployment or a Job."""

    pod: PodObject
    """As its pods will be."""
    owner: Owner
    status: DeploymentStatus | JobStatus | None
    created: float


class RolloutTeller:
    """What is said of a cluster's Deployments and Jobs. `run` it in a TaskGroup, beside the source."""

    def __init__(self, source: Speaker, api: ApiServer, rules: Rules, now: Callable[[], int] = time.time_ns) -> None:
        """`now`: Unix ns."""
        self._source = source
        self._rules = rules
        self._now = now
        self._tenants: dict[str, Tenant] = {}
        self._seen: dict[str, _Seen] = {}
        """By uid."""
        self._stirred: set[str] = set()
        self._woken = asyncio.Event()
        self._followers = [
            Follower(api, NAMESPACES, self._keep_namespace, lambda _: None),
            Follower(api, DEPLOYMENTS, partial(self._keep, "Deployment"), self._drop),
            Follower(api, ALL_JOBS, partial(self._keep, "Job"), self._drop),
        ]

    async def run(self) -> None:
        """Say what there is to say, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for follower in self._followers:
                tasks.create_task(follower.run())
            for follower in self._followers:
                await follower.listed.wait()
            await self._continuous_telling()

    async def _continuous_telling(self) -> None:
        swept = False
        while True:
            if self._source.ready and not swept:
                swept = True
                files = [file for file in self._source.collector.positions if file.endswith(_FILE)]
                self._source.collector.forget([file for file in files if file.removesuffix(_FILE) not in self._seen])
            for uid in list(self._stirred) if self._source.ready else ():
                self._stirred.discard(uid)
                if not await self._tell(uid):
                    self._stirred.add(uid)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE if self._stirred or not swept else None):
                    await self._woken.wait()
            self._woken.clear()

    # ---- what the API server tells

    def _keep_namespace(self, item: Json) -> None:
        namespace = Namespace.of(item, self._rules.needed)
        self._tenants[namespace.name] = naming.tenant_of(namespace, self._rules)

    def _keep(self, kind: str, item: Json) -> None:
        metadata = item["metadata"]
        own = Owner("Job", "batch", metadata["name"]) if kind == "Job" else Owner(kind, "apps", metadata["name"])
        above = Owner.of(metadata)
        owner = above if above is not None and above.kind == "CronJob" else own
        template = item["spec"]["template"]
        described = {
            **(template.get("metadata") or {}),
            "name": own.name,
            "namespace": metadata["namespace"],
            "uid": "",
        }
        pod = PodObject.of({"metadata": described, "spec": template["spec"]}, self._rules.needed)
        status = JobStatus.of(item) if kind == "Job" else DeploymentStatus.of(item)
        created = datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()
        self._seen[metadata["uid"]] = _Seen(pod, owner, status, created)
        self._stir(metadata["uid"])

    def _drop(self, uid: str) -> None:
        del self._seen[uid]
        self._stir(uid)

    def _stir(self, uid: str) -> None:
        self._stirred.add(uid)
        self._woken.set()

    # ---- what is said

    async def _tell(self, uid: str) -> bool:
        """Say what there is to say of one object; False where it has to wait."""
        collector = self._source.collector
        file = uid + _FILE
        seen = self._seen.get(uid)
        if seen is None:
            collector.forget([file])
            return True
        if seen.status is None:
            return True  # it changes once its controller has seen it
        tenant = self._tenants.get(seen.pod.folder.namespace)
        if tenant is None:
            return False
        last = collector.positions.get(file)
        told = Told.decode(last.held) if last is not None else None
        new = seen.created >= self._now() / 1e9 - OLD
        if isinstance(seen.status, JobStatus):
            lines, then = tell_job(told, seen.status, new=new)
        else:
            lines, then = tell_rollout(told, seen.status, new=new)
        stream = self._stream(uid, seen, tenant)
        at = last.end if last is not None else 0
        for line in lines if stream is not None else ():
            assert stream is not None
            value = cri.format_line(cri.format_time(self._now()), b"stdout", line.text.encode("utf-8", "replace"))
            place = Origin(collector.node, file, at, at + 1, held=line.told.encode())
            if not await self._source.say(stream, value, place):
                return False
            at += 1
        if then != told:
            collector.moved(Origin(collector.node, file, at, at, held=then.encode()))
        return True

    def _stream(self, uid: str, seen: _Seen, tenant: Tenant) -> Stream | None:
        """Of the process that is rolled out, or of the job; None where its lines are left out."""
        filed = naming.file(seen.pod, seen.pod.containers.main, seen.owner, self._rules)
        if filed is None:
            return None
        dyno = filed.dyno if isinstance(seen.status, JobStatus) else filed.process
        return Stream(tenant.name, filed.app, filed.process, dyno, "platform", uid, tenant.retention)
