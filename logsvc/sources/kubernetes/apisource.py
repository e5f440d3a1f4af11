"""The API source: follows the log of every container of a cluster through the API server, where no node can be read."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from logsvc.errors import ClusterError
from logsvc.model import Stream
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.apiserver import ApiServer
from logsvc.sources.kubernetes.chronicle import SAID
from logsvc.sources.kubernetes.containerlog import ContainerLog, Reach, last_taken, name_of
from logsvc.sources.kubernetes.pace import Pace
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.pods import PodIdentity
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.kubernetes.saying import SayingSource
from logsvc.sources.kubernetes.transitions import PodStatus, Run
from logsvc.sources.kubernetes.vanished import tell_vanished

_GATHER: Final = 0.05
"""Seconds in which changes of pods are gathered before all pods are looked at."""

logger = logging.getLogger(__name__)


class ApiSource(SayingSource):
    """Collects the logs of a cluster. `run` it in a TaskGroup, beside the identity, which knows what pods there are."""

    def __init__(
        self,
        api: ApiServer,
        identity: PodIdentity,
        collector: Collector,
        requests: float,
        quota: Quota | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`requests`: for logs, a second, at most. `now`: Unix ns."""
        super().__init__(collector)
        self.logs: dict[tuple[Pod, str], ContainerLog] = {}
        self._identity = identity
        statuses = identity.statuses.get
        pace = Pace(requests)
        self._reach = Reach(api, collector, identity, statuses, pace, now, self._refused, quota or Quota())
        self._woken = asyncio.Event()
        self._seen: dict[Pod, PodStatus] = {}
        self._said: set[str] = set()

    def identities_changed(self) -> None:
        """There are other pods, or they are others'."""
        self._woken.set()

    def has_read(self, pod: Pod, container: str, restart: int) -> bool:
        """Whether everything that a container wrote up to a restart is on the bus."""
        log = self.logs.get((pod, container))
        if log is not None:
            return log.read > restart or not isinstance(self._identity.stream(*pod, container, restart), Stream)
        return pod not in self._identity.statuses

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Follow everything."""
        self.logs.clear()
        self._seen.clear()
        self._woken.set()
        swept = False
        while True:
            await self._woken.wait()
            self._woken.clear()
            self._look(group)
            if not swept and self._identity.listed:
                swept = True
                await self._tell_vanished()
            await asyncio.sleep(_GATHER)

    def _refused(self, error: ClusterError) -> None:
        if str(error) not in self._said:
            self._said.add(str(error))
            logger.warning("logs can't be followed: %s", error)

    # ---- what there is

    def _look(self, group: asyncio.TaskGroup) -> None:
        """Begin with new containers, and have those look again whose pods aren't as they were."""
        statuses = self._identity.statuses
        for pod, status in statuses.items():
            if self._seen.get(pod) is not status:
                self._seen[pod] = status
                for run in status.runs:
                    self._wake(group, pod, run)
        for pod in self._seen.keys() - statuses.keys():
            for run in self._seen.pop(pod).runs:
                if (log := self.logs.get((pod, run.name))) is not None:
                    log.changed.set()
        for log in self.logs.values():
            if log.nobodys:
                log.changed.set()

    def _wake(self, group: asyncio.TaskGroup, pod: Pod, run: Run) -> None:
        log = self.logs.get((pod, run.name))
        if log is not None:
            log.changed.set()
            return
        log = self.logs[pod, run.name] = ContainerLog(self._reach, pod, run.name, self._begin(pod, run))
        group.create_task(self._run(pod, run.name, log), name=f"log of {pod}/{run.name}")

    async def _run(self, pod: Pod, container: str, log: ContainerLog) -> None:
        await log.run()
        del self.logs[pod, container]

    def _begin(self, pod: Pod, run: Run) -> int:
        """The run of a container to begin with: where it was followed, else with the oldest that can be had."""
        known = self.collector.files_of(name_of(pod, run.name, 0).removesuffix("0"))
        if not known:
            return run.number - 1 if run.before is not None else run.number
        last = max(known, key=_number)
        closed = self.collector.positions[last].check == CLOSED
        return _number(last) + closed

    async def _tell_vanished(self) -> None:
        """Say of pods that went while nobody followed them what may be missing."""
        there = {pod.uid for pod in self._identity.statuses}
        files = [file for file in self.collector.positions if SAID not in file]
        gone = [file for file in files if file.partition("/")[0] not in there]
        await tell_vanished(self.collector, gone, self._identity, self._reach.now(), last_taken)


def _number(file: str) -> int:
    return int(file.rpartition("/")[2])
