"""Says in each app's timeline how rollouts and jobs go."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from logsvc.model import Stream
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.apiserver import ALL_JOBS, DEPLOYMENTS, ApiServer
from logsvc.sources.kubernetes.chronicle import OLD, SAID, Speaker
from logsvc.sources.kubernetes.follow import Follower
from logsvc.sources.kubernetes.naming import Rules, Tenant
from logsvc.sources.kubernetes.objects import Json, Owner, PodObject
from logsvc.sources.kubernetes.rollouts import DeploymentStatus, JobStatus, Told, tell_job, tell_rollout
from logsvc.sources.kubernetes.teller import Teller

ROLLOUT: Final = SAID + "rollout"


class _Seen(NamedTuple):
    """A Deployment or a Job."""

    pod: PodObject
    """As its pods will be."""
    owner: Owner
    status: DeploymentStatus | JobStatus | None
    created: float


class RolloutTeller(Teller[_Seen]):
    """What is said of a cluster's Deployments and Jobs."""

    suffix = ROLLOUT

    def __init__(
        self,
        source: Speaker,
        api: ApiServer,
        rules: Rules,
        tenants: Mapping[str, Tenant],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`now`: Unix ns."""
        followers = [
            Follower(api, DEPLOYMENTS, partial(self._keep_object, "Deployment"), self._drop),
            Follower(api, ALL_JOBS, partial(self._keep_object, "Job"), self._drop),
        ]
        super().__init__(source, tenants, followers, now)
        self._rules = rules

    def _keep_object(self, kind: str, item: Json) -> None:
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
        self._keep(metadata["uid"], _Seen(pod, owner, status, created))

    async def _tell(self, uid: str) -> bool:
        seen = self._seen.get(uid)
        if seen is None:
            self._forget(uid)
            return True
        if seen.status is None:
            return True  # it changes once its controller has seen it
        tenant = self._tenants.get(seen.pod.folder.namespace)
        if tenant is None:
            return False
        last = self._last(uid)
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
            if not await self._say(stream, line.text, self._place(uid, at, at + 1, line.told.encode())):
                return False
            at += 1
        if then != told:
            self._source.collector.moved(self._place(uid, at, at, then.encode()))
        return True

    def _stream(self, uid: str, seen: _Seen, tenant: Tenant) -> Stream | None:
        """Of the process that is rolled out, or of the job; None where its lines are left out."""
        filed = naming.file(seen.pod, seen.pod.containers.main, seen.owner, self._rules)
        if filed is None:
            return None
        dyno = filed.dyno if isinstance(seen.status, JobStatus) else filed.process
        return Stream(tenant.name, filed.app, filed.process, dyno, "platform", uid, tenant.retention)
