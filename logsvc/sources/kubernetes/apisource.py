"""The API source: follows the log of every container of a cluster through the API server, where no node can be read."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from logsvc.errors import BusError, ClusterError, LogsvcError, StoreError
from logsvc.model import Origin, Stream
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.apiserver import ApiServer
from logsvc.sources.kubernetes.chronicle import SAID
from logsvc.sources.kubernetes.containerlog import ContainerLog, Reach, name_of
from logsvc.sources.kubernetes.pace import Pace
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.pods import PodIdentity
from logsvc.sources.kubernetes.transitions import PodStatus, Run

_GATHER: Final = 0.05
"""Seconds in which changes of pods are gathered before all pods are looked at."""

_RETRY: Final = 0.2
_MAX_RETRY: Final = 2.0
"""Seconds between two tries at a bus that fails, each twice the one before."""

_CHECKPOINT: Final = 1.0
"""Seconds between two checkpoints."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ApiState:
    """How the source is doing."""

    problem: str | None = None
    """Why nothing is collected now; None while all is well."""
    recoveries: int = 0


class ApiSource:
    """Collects the logs of a cluster. `run` it in a TaskGroup, beside the identity, which knows what pods there are."""

    def __init__(
        self,
        api: ApiServer,
        identity: PodIdentity,
        collector: Collector,
        requests: float,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`requests`: for logs, a second, at most. `now`: Unix ns."""
        self.state = ApiState()
        self.collector = collector
        self.logs: dict[tuple[Pod, str], ContainerLog] = {}
        self._identity = identity
        statuses = identity.statuses.get
        self._reach = Reach(api, collector, identity, statuses, Pace(requests), now, self._refused)
        self._ready = False
        self._woken = asyncio.Event()
        self._broken = asyncio.Event()
        self._stop = asyncio.Event()
        self._seen: dict[Pod, PodStatus] = {}
        self._said: set[str] = set()

    async def run(self) -> None:
        """Collect until `stop`; the bus's errors are waited out."""
        try:
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._continuous_work(), name="api: work")
                saving = tasks.create_task(self._continuous_checkpoints(), name="api: checkpoints")
                await self._stop.wait()
                # What is on its way is found out by whoever starts next, as after a crash.
                working.cancel()
                saving.cancel()
        finally:
            self._ready = False
            await self.collector.save()

    def stop(self) -> None:
        """Let `run` return."""
        self._stop.set()

    def identities_changed(self) -> None:
        """There are other pods, or they are others'."""
        self._woken.set()

    @property
    def ready(self) -> bool:
        """Whether it is known what the bus has, and the bus takes more."""
        return self._ready

    async def say(self, stream: Stream, value: bytes, origin: Origin) -> bool:
        """Append what is in no log; False where it can't be taken now."""
        if not self._ready:
            return False
        try:
            await self.collector.append(stream, value, origin)
        except BusError as error:
            self._fail(error)
            return False
        return True

    def has_read(self, pod: Pod, container: str, restart: int) -> bool:
        """Whether everything that a container wrote up to a restart is on the bus."""
        log = self.logs.get((pod, container))
        if log is not None:
            return log.read > restart or not isinstance(self._identity.stream(*pod, container, restart), Stream)
        return pod not in self._identity.statuses

    # ---- life

    async def _continuous_work(self) -> None:
        """Find the places, follow everything, and begin again when the bus has failed."""
        delay = _RETRY
        while True:
            chunks = self.collector.chunks
            self._broken.clear()
            try:
                await self.collector.recover()
                self.state.recoveries += 1
                self.state.problem = None
                await self._follow()
            except* (BusError, StoreError) as errors:
                self._fail(_first(errors))
            self._ready = False
            self.logs.clear()
            self._seen.clear()
            if self.collector.chunks > chunks:
                delay = _RETRY
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_RETRY)

    async def _follow(self) -> None:
        """Until the bus fails."""
        self._ready = True
        self._woken.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_broken(), name="api: bus")
            swept = False
            while True:
                await self._woken.wait()
                self._woken.clear()
                self._look(group)
                if not swept and self._identity.listed:
                    swept = True
                    self._forget_gone()
                await asyncio.sleep(_GATHER)

    async def _until_broken(self) -> None:
        await self._broken.wait()
        raise BusError(self.state.problem or "the bus failed")

    async def _continuous_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(_CHECKPOINT)
            await self.collector.save()

    def _fail(self, error: LogsvcError) -> None:
        if self.state.problem != str(error):
            self.state.problem = str(error)
            logger.warning("collection waits, the logs stay where they are: %s", error)
        self._broken.set()

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

    def _forget_gone(self) -> None:
        """Pods that went while nobody followed them: what they wrote meanwhile nobody has any more."""
        there = {pod.uid for pod in self._identity.statuses}
        files = [file for file in self.collector.positions if SAID not in file]
        gone = [file for file in files if file.partition("/")[0] not in there]
        if any(self.collector.positions[file].check != CLOSED for file in gone):
            logger.warning(
                "pods were deleted while their logs were not being followed; their last lines may be missing"
            )
        self.collector.forget(gone)


def _number(file: str) -> int:
    return int(file.rpartition("/")[2])


def _first(errors: BaseExceptionGroup[LogsvcError]) -> LogsvcError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
