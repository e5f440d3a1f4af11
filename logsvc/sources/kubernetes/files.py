"""The files source: follows every log file below a folder shaped like `/var/log/pods`.

A container whose files are quiet costs a watch in the kernel and no task. Its next write wakes it: it is read at
once, then looked at on a shared tick until it is quiet again. So the kernel reports transitions, not writes.
"""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from logsvc.bus.protocol import Bus
from logsvc.errors import BusError, ConfigError, StoreError
from logsvc.model import Origin, Stream
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector, StoredOrigins
from logsvc.sources.kubernetes.changes import Changes
from logsvc.sources.kubernetes.chronicle import SAID
from logsvc.sources.kubernetes.discovery import SLICE, Discovery
from logsvc.sources.kubernetes.lane import Lane, Shop, Turn
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.quota import Queue, Quota
from logsvc.sources.kubernetes.settings import FilesSettings, FilesState
from logsvc.sources.kubernetes.vanished import Memory, tell_vanished
from logsvc.sources.kubernetes.watch import Watcher
from logsvc.sources.redaction import Redact

__all__ = ["FilesSettings", "FilesSource", "FilesState"]

_MANY: Final = 40
"""Files written to at once with which a tick is twice as long as with one."""

logger = logging.getLogger(__name__)


class FilesSource:
    """Collects the files of one node. `run` it in a TaskGroup."""

    def __init__(
        self,
        settings: FilesSettings,
        bus: Bus,
        identity: Memory,
        *,
        stored_origins: StoredOrigins | None = None,
        redact: Redact | None = None,
        quota: Quota | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`stored_origins` asks the store for a node's origins, for the day a checkpoint is lost. `now`: Unix ns."""
        self.state = FilesState()
        checkpoint = Checkpoint(settings.data / "checkpoint", settings.node)
        self.collector = Collector(bus, settings.node, checkpoint, stored_origins, redact)
        self.lanes: dict[tuple[str, str], Lane] = {}
        self._settings = settings
        self._identity = identity
        self._quota = quota or Quota()
        self.over_quota: Queue[Lane] = Queue(self._quota, self.wake)
        """Containers of which lines wait in their files for that."""
        self._now = now
        self._watcher = Watcher()
        self._shop: Shop
        self._discovery: Discovery
        self._tasks: asyncio.TaskGroup
        self._active: set[Lane] = set()
        """Looked at on each tick."""
        self._polled: set[Lane] = set()
        """Quiet, but the kernel doesn't watch them."""
        self._unknown: set[Lane] = set()
        self._gone: set[Lane] = set()
        """Deleted, and not yet read to their ends."""
        self._slots = asyncio.Semaphore(settings.turns)
        self._running = 0
        self._ready = False
        self._failed_at = 0
        """Chunks taken when the bus failed last: once there are more, it works again."""
        self._stop = asyncio.Event()
        self._broken = asyncio.Event()
        self._some_active = asyncio.Event()
        self._changes = Changes()

    # ---- life

    async def run(self) -> None:
        """Collect until `stop`. Raises ConfigError where the folders can't be used; the bus's errors are waited out."""
        root = await asyncio.to_thread(self._prepare)
        try:
            clock = asyncio.get_running_loop().time
            self._shop = Shop(
                root,
                self.collector,
                self._identity,
                self._settings.data,
                self._now,
                clock,
                self._settings.grace,
                self._quota,
            )
            self._discovery = Discovery(root, self._watcher, self)
            with self._watcher:
                async with asyncio.TaskGroup() as self._tasks:
                    loops = [
                        self._tasks.create_task(loop(), name=f"files: {loop.__name__}")
                        for loop in (
                            self._continuous_recovery,
                            self._continuous_events,
                            self._continuous_ticks,
                            self._continuous_polls,
                            self._continuous_rescans,
                            self._continuous_checkpoints,
                        )
                    ]
                    await self._stop.wait()
                    await self._settled()
                    for task in loops:
                        task.cancel()
        finally:
            for lane in self.lanes.values():
                lane.series.close()
            self.lanes.clear()
            os.close(root)
            await self.collector.save()

    def stop(self) -> None:
        """Let `run` return once what is on its way is acknowledged."""
        self._stop.set()

    async def drained(self) -> None:
        """Wait until the bus has every whole line that is on the disk now, and it is known whose they are."""
        await self._changes.until(lambda: self._ready)
        await self._discovery.look()
        for lane in list(self.lanes.values()):
            self._scan(lane)
        await self._changes.until(self._is_drained)

    def _is_drained(self) -> bool:
        lanes = self.lanes.values()
        return self._ready and not self._unknown and not any(lane.busy or lane.series.changed() for lane in lanes)

    def collected(self, path: Path) -> bool:
        """Whether the bus has acknowledged all of the log file `path`, compressed or not; from any thread.

        Whoever asks before deleting a file loses nothing.
        """
        lane = self.lanes.get((path.parent.parent.name, path.parent.name))
        return lane is not None and lane.series.collected(path)

    def identities_changed(self) -> None:
        """Ask again whose the lines are that wait for it."""
        for lane in list(self._unknown):
            self.wake(lane)

    async def say(self, stream: Stream, value: bytes, origin: Origin) -> bool:
        """Append what no file holds, named by an `origin.file` with SAID in it; False where it can't be taken now."""
        if not self._ready or self._broken.is_set() or self._stop.is_set():
            return False
        self._running += 1
        try:
            await self.collector.append(stream, value, origin)
        except BusError as error:
            self._fail(str(error))
            return False
        finally:
            self._running -= 1
            self._changes.happened()
        return True

    def has_read(self, pod: Pod, container: str, restart: int) -> bool:
        """Whether everything that a container wrote up to a restart is on the bus, as far as is known here."""
        lane = self.lanes.get((str(pod), container))
        return lane is None or not (lane.busy or lane.series.changed(restart))

    @property
    def ready(self) -> bool:
        """Whether it is known what the bus has, and the bus takes more."""
        return self._ready

    def _prepare(self) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            self._settings.data.mkdir(parents=True, exist_ok=True)
            return os.open(self._settings.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{error.filename} can't be used: {error.strerror}") from error

    # ---- taking turns

    def wake(self, lane: Lane) -> None:
        """There may be something to read."""
        waits = lane in self.over_quota and not lane.series.losses
        if self._ready and not lane.busy and not waits and not self._stop.is_set():
            self._take(lane)
            self._active.discard(lane)
            self._polled.discard(lane)
            self._tasks.create_task(self._read_out(lane))

    async def _read_out(self, lane: Lane) -> None:
        """Take turns until there is nothing new; others get theirs in between."""
        turn = Turn.MORE
        try:
            while turn is Turn.MORE and not (self._broken.is_set() or self._stop.is_set()):
                async with self._slots:
                    turn = await lane.turn()
                if self.collector.chunks > self._failed_at:
                    self._mend()
        except BusError as error:
            self._fail(str(error))
        except OSError as error:
            turn = Turn.UNKNOWN
            if lane.trouble != str(error):
                lane.trouble = str(error)
                logger.warning("%s can't be read now: %s", lane.name, error)
        finally:
            self._release(lane)
        if turn is Turn.UNKNOWN:
            self._unknown.add(lane)
        elif turn is Turn.OVER:
            self._unknown.discard(lane)
            if lane not in self.over_quota:
                self.over_quota.add(lane.tenant, lane)
        else:
            self._unknown.discard(lane)
            lane.idle_since = self._shop.clock()
            self._active.add(lane)
            self._some_active.set()
        self._changes.happened()

    def _take(self, lane: Lane) -> None:
        lane.busy = True
        self._running += 1

    def _release(self, lane: Lane) -> None:
        lane.busy = False
        self._running -= 1

    async def _settled(self) -> None:
        await self._changes.until(lambda: self._running == 0)

    # ---- loops

    async def _continuous_recovery(self) -> None:
        """Find the places, let everybody read, and begin again when the bus has failed."""
        delay = self._settings.retry
        while True:
            try:
                await self.collector.recover()
                for lane in list(self.lanes.values()):
                    lane.lost_place()
                self._broken.clear()
                await self._discovery.look()
                await tell_vanished(self.collector, self._vanished(), self._identity, self._now())
                self._ready = True
            except (BusError, StoreError) as error:
                self._fail(str(error))
            else:
                self.state.recoveries += 1
                chunks = self.collector.chunks
                for lane in list(self.lanes.values()):
                    self.wake(lane)
                self._changes.happened()
                await self._broken.wait()
                if self.collector.chunks > chunks:
                    delay = self._settings.retry
            self._ready = False
            await self._settled()
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._settings.max_retry)

    def _mend(self) -> None:
        if self.state.problem is not None and not self._broken.is_set():
            self.state.problem = None
            logger.info("collection goes on")

    def _fail(self, problem: str) -> None:
        self._failed_at = self.collector.chunks
        if self.state.problem != problem:
            self.state.problem = problem
            logger.warning("collection waits, the files are kept: %s", problem)
        self._broken.set()

    async def _continuous_events(self) -> None:
        while await self._watcher.wait():
            while self._watcher.dispatch():
                if self._watcher.overflowed:
                    self._watcher.overflowed = False
                    logger.warning("the kernel had too much to tell: looking at everything")
                    for lane in self.lanes.values():
                        lane.series.disarm()  # what it reports once may be among what it didn't tell
                    await self._look_at_all()
                # What comes right behind the first is taken together, which costs less.
                await asyncio.sleep(self._settings.tick / 2)

    def _written(self, lane: Lane, _: str) -> None:
        lane.series.disarm()
        self.wake(lane)

    def _scan(self, lane: Lane) -> None:
        lane.series.scan()
        if lane.series.gone:
            self._gone.add(lane)
            self._discovery.gone(lane.pod_folder, lane.container)
        else:
            self._gone.discard(lane)
        self.wake(lane)

    async def _continuous_ticks(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._some_active.wait()
            begin = clock()
            written = 0
            for lane in list(self._active):
                if lane.busy:
                    continue
                if lane.series.changed():
                    written += 1
                    self.wake(lane)
                elif begin - lane.idle_since >= self._settings.idle_after:
                    self._rest(lane)
            if not self._active:
                self._some_active.clear()
            # A chunk costs more than its lines do: the more are written to, the longer they may gather lines.
            tick = self._settings.tick * (1 + min(written / _MANY, 1))
            # With very many of them the looks themselves must not fill the time.
            await asyncio.sleep(max(tick, 10 * (clock() - begin)))

    def _rest(self, lane: Lane) -> None:
        """Leave a quiet container to the kernel."""
        self._active.discard(lane)
        if not lane.series.arm(self._watcher, partial(self._written, lane)):
            self._polled.add(lane)
            self.unwatched()
        # What was written before the kernel began to watch it doesn't tell.
        if lane.series.changed():
            self.wake(lane)

    async def _continuous_polls(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._settings.poll)
            for lane in [lane for lane in self._polled if lane.series.changed()]:
                self.wake(lane)
            self.identities_changed()
            for lane in list(self._gone):
                if clock() - lane.idle_since > 1.0:
                    await self._sweep(lane)

    async def _continuous_rescans(self) -> None:
        looks = 0
        while True:
            every = self._settings.rescan
            # Without the kernel nobody tells of new pods and rotated files.
            await asyncio.sleep(every if self.state.watch_problem is None else min(every, 1.0))
            await self._look_at_all()
            looks += 1
            if self._ready and looks % 6 == 0:
                known = self.collector.by_folder()
                for lane in self.lanes.values():
                    lane.series.forget_absent(known.get(lane.series.prefix, ()))
                with suppress(BusError):
                    await self.collector.advance()

    async def _continuous_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(self._settings.checkpoint)
            await self.collector.save()

    # ---- what there is

    def found(self, pod_folder: str, container: str, pod: Pod) -> None:
        """Discovery has found a container."""
        lane = self.lanes[pod_folder, container] = Lane(self._shop, pod_folder, container, pod)
        self._scan(lane)

    def changed(self, pod_folder: str, container: str) -> None:
        """A container's folder isn't as it was."""
        self._scan(self.lanes[pod_folder, container])

    def unwatched(self) -> None:
        """The kernel can't watch something; say so once."""
        if self._watcher.problem != self.state.watch_problem:
            self.state.watch_problem = self._watcher.problem
            logger.warning("%s", self._watcher.problem)

    def _vanished(self) -> Iterator[str]:
        """Files with a position of containers that have none any more."""
        folders = self._discovery.folders
        found = {lane.series.prefix for lane in self.lanes.values()}
        here = {lane.series.prefix for lane in self.lanes.values() if not lane.series.is_empty}
        for file in self.collector.positions:
            if SAID not in file:
                uid, container, _ = file.split("/")
                prefix = f"{uid}/{container}/"
                if prefix in found:
                    gone = prefix not in here
                else:
                    gone = uid not in folders or not self._discovery.has(folders[uid], container)
                if gone:
                    yield file

    async def _look_at_all(self) -> None:
        """What no event told: new folders, changed folders, grown files, finished files.

        While the bus is away too: files go on to grow and to be deleted, and those that are held fill the disk.
        """
        if not self.state.recoveries:
            return
        await self._discovery.look()
        waiting = deleted = 0
        for number, lane in enumerate(list(self.lanes.values())):
            if lane.series.stale():
                self._scan(lane)
            if lane.series.changed():
                waiting += lane.series.waiting()
                self.wake(lane)
            elif len(lane.series.files) > 1 and not lane.series.gone:
                await self._sweep(lane)
            deleted += lane.series.deleted_bytes()
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if not waiting:
            self._mend()
        self.state.waiting_bytes = waiting
        self.state.deleted_bytes = deleted
        self.state.unknown = len(self._unknown)
        if deleted > self._settings.max_deleted_bytes:
            self._give_up(deleted - self._settings.max_deleted_bytes)

    async def _sweep(self, lane: Lane) -> None:
        if lane.busy or not self._ready or self._broken.is_set():
            return
        self._take(lane)
        try:
            keep = await lane.sweep()
        except BusError as error:
            self._fail(str(error))
            return
        finally:
            self._release(lane)
            self._changes.happened()
        if not keep:
            self._drop(lane)

    def _drop(self, lane: Lane) -> None:
        lane.series.close()
        del self.lanes[lane.pod_folder, lane.container]
        self._discovery.done(lane.pod_folder, lane.container)
        for lanes in (self._active, self._polled, self._unknown, self._gone, self.over_quota):
            lanes.discard(lane)

    def _give_up(self, excess: int) -> None:
        held = [
            (file.size(), lane, file) for lane in self.lanes.values() for file in lane.series.files if file.held_deleted
        ]
        for size, lane, file in sorted(held, key=lambda item: item[0], reverse=True):
            if excess <= 0:
                break
            if not lane.busy:
                lane.series.give_up(file)
                self.wake(lane)
                excess -= size
