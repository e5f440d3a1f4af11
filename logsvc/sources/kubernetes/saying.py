"""A source that reads no files: what it appends others tell it, and where it was it learns from the bus."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from logsvc.errors import BusError, LogsvcError, StoreError
from logsvc.model import Origin, Stream
from logsvc.sources.collector import Collector
from logsvc.tasks import apart

_RETRY: Final = 0.2
_MAX_RETRY: Final = 2.0
"""Seconds between two tries at a bus that fails, each twice the one before."""

_CHECKPOINT: Final = 1.0
"""Seconds between two checkpoints."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SayingState:
    """How the source is doing."""

    problem: str | None = None
    """Why nothing is collected now; None while all is well."""
    recoveries: int = 0


class SayingSource:
    """Appends what it is told to `say`. `run` it in a TaskGroup."""

    def __init__(self, collector: Collector) -> None:
        self.state = SayingState()
        self.collector = collector
        self._ready = False
        self._broken = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; the bus's errors are waited out."""
        try:
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._continuous_work(), name="source: work")
                saving = tasks.create_task(self._continuous_checkpoints(), name="source: checkpoints")
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

    async def _continuous_work(self) -> None:
        """Find the places, work, and begin again when the bus has failed."""
        delay = _RETRY
        while True:
            chunks = self.collector.chunks
            self._broken.clear()
            try:
                await apart(self._work_until_broken)
            except* (BusError, StoreError) as errors:
                self._fail(_first(errors))
            self._ready = False
            if self.collector.chunks > chunks:
                delay = _RETRY
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_RETRY)

    async def _work_until_broken(self) -> None:
        await self.collector.recover()
        self.state.recoveries += 1
        self.state.problem = None
        self._ready = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_broken(), name="source: bus")
            await self._work(group)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """What there is to do besides, for ever: the bus's failure cancels it."""
        del group
        await asyncio.Event().wait()

    async def _until_broken(self) -> None:
        await self._broken.wait()
        raise BusError(self.state.problem or "the bus failed")

    async def _continuous_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(_CHECKPOINT)
            await self.collector.save()

    def _fail(self, error: LogsvcError) -> None:
        self._ready = False
        if self.state.problem != str(error):
            self.state.problem = str(error)
            logger.warning("collection waits, nothing is lost by it: %s", error)
        self._broken.set()


def _first(errors: BaseExceptionGroup[LogsvcError]) -> LogsvcError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
