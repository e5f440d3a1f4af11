"""`logsvc collect`: the logs of one node, or of a cluster, to Kafka. One process for each."""

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from logsvc import telemetry
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.service.epochs import is_stored, next_epoch, until_sealed
from logsvc.service.lifecycle import say
from logsvc.service.pods import Watched, watched_pods
from logsvc.service.role import Health, run_role
from logsvc.service.shards import Shares
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.apisource import ApiSource
from logsvc.sources.kubernetes.chronicle import Chronicle
from logsvc.sources.kubernetes.event_teller import EventTeller
from logsvc.sources.kubernetes.files import FilesSource
from logsvc.sources.kubernetes.rollout_teller import RolloutTeller
from logsvc.sources.kubernetes.saying import SayingSource
from logsvc.sources.kubernetes.settings import FilesSettings
from logsvc.sources.kubernetes.shards import Shard
from logsvc.sources.kubernetes.teller import Tenants
from logsvc.sources.procfile.identity import ProcfileIdentity
from logsvc.sources.redaction import redaction
from logsvc.store.protocol import StoreReader
from logsvc.store.server import ServerStore
from logsvc.waiting import TROUBLE, opened, persist


async def collect(settings: Settings, node: str | None = None) -> int:
    """Collect until a signal comes; what is on its way then is acknowledged, and the place in every file is saved.

    Raises ConfigError where another process collects here already, BusError where settings or topics are wrong; waits
    for a Kafka that is away.
    """
    with _only_one(settings):
        role = "rollouts" if settings.kubernetes.source == "rollouts" else "collect"
        return await run_role(settings.probe, role, partial(_collect, settings, node or _name(settings)))


def _name(settings: Settings) -> str:
    """What is collected, in origins: the same wherever and however often it is begun."""
    source = settings.kubernetes.source
    return f"kubernetes-{source}" if source != "files" else settings.kubernetes.node or socket.gethostname()


async def _collect(settings: Settings, node: str, health: Health) -> None:
    store = ServerStore(settings.clickhouse)
    folder = settings.data.dir / "collector"
    try:
        async with AsyncExitStack() as stack:
            epochs = await stack.enter_async_context(opened(partial(Epochs.open, settings.kafka), "collection"))
            if settings.kubernetes.source == "api":
                followed = telemetry.FollowedLogs()

                async def work(shard: Shard, may_send: Callable[[], bool], health: Health) -> None:
                    # A checkpoint knows the places of its share alone: with another number of shares it begins anew.
                    own = folder / f"shard-{shard.number}-of-{shard.of}"
                    async with watched_pods(settings, own, shard) as watched:
                        share = _Share(shard, may_send, followed)
                        await _Collecting(settings, epochs, store, node, health, watched, own, share).run()

                await Shares(settings, folder, health, work).run()
                return
            watched = None
            if settings.kubernetes.node or settings.kubernetes.source != "files":
                watched = await stack.enter_async_context(watched_pods(settings, folder))
            await _Collecting(settings, epochs, store, node, health, watched, folder).run()
    finally:
        await store.close()


class _Share(NamedTuple):
    """Of a cluster's logs."""

    shard: Shard
    may_send: Callable[[], bool]
    followed: telemetry.FollowedLogs


class _Collecting:
    """One node's logs, or a cluster's, epoch after epoch."""

    def __init__(
        self,
        settings: Settings,
        epochs: Epochs,
        store: StoreReader,
        node: str,
        health: Health,
        watched: Watched | None,
        folder: Path,
        share: _Share | None = None,
    ) -> None:
        """`watched`: whose pods they are; None for the processes of a Procfile. `folder` keeps the places."""
        self._watched = watched
        self._settings, self._epochs, self._store = settings, epochs, store
        self._folder, self._node = folder, node
        self._share = share
        # What is sent under a name is refused once another has sent under it: see ADR 0010.
        self._writer = f"collect-{node}" + (f"-{share.shard.number}" if share is not None else "")
        self._health = health
        self._redact = redaction(settings.redact)

    async def run(self) -> None:
        """Where an epoch was sealed, find out from it what was taken, and go on behind that in the next one."""
        epoch = await self._first()
        while True:
            opening = partial(
                KafkaBus.open,
                self._settings.kafka,
                epoch.number,
                epochs=self._epochs,
                writer=self._writer,
            )
            async with opened(opening, f"epoch {epoch.number}", self._health.waited_out) as bus:
                if not self._health.started:
                    self._health.start()
                    say(f"logsvc collects {self._what}")
                if bus.sealed is None:
                    await self._collect(bus)
                await self._take_stock(bus)
            epoch = await next_epoch(self._epochs, epoch.number)

    async def _take_stock(self, bus: KafkaBus) -> None:
        """Save the places up to which a sealed epoch has the files: the next one isn't begun before.

        Raises ConfigError where they can't be saved.
        """
        collector = self._collector(bus)
        await persist(collector.recover, "collection", TROUBLE)
        await collector.save()
        if not collector.saved:
            raise ConfigError(f"the checkpoint in {self._folder} can't be written, and a new epoch needs one")

    async def _first(self) -> Epoch:
        """The epoch in which this node collected last; without a checkpoint, the oldest that isn't stored."""
        snapshot = self._checkpoint().load()
        if snapshot is not None and snapshot.epoch in self._epochs.all:
            return self._epochs.all[snapshot.epoch]
        for number in sorted(self._epochs.all):
            epoch = self._epochs.all[number]
            if not await persist(partial(is_stored, epoch, self._store), "collection"):
                return epoch
        return self._epochs.current

    def _collector(self, bus: KafkaBus) -> Collector:
        given = (bus, self._node, self._checkpoint(), self._store.origins, self._redact)
        share = self._share
        if share is None:
            return Collector(*given)
        return Collector(*given, mine=share.shard.has_file, may_send=share.may_send)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._folder / "checkpoint", self._node)

    async def _collect(self, bus: KafkaBus) -> None:
        """Until the epoch is sealed. However it ends, what is on its way is acknowledged and the places are saved."""
        source = self._source(bus)
        self._health.trouble = lambda: source.state.problem
        async with asyncio.TaskGroup() as group:
            running = group.create_task(source.run(), name="source")
            telling = [group.create_task(telling) for telling in self._telling(source)]
            try:
                await until_sealed(self._epochs, bus.epoch)
            finally:
                for task in telling:
                    task.cancel()
                source.stop()
                await asyncio.wait([running])
                if self._share is not None and isinstance(source, ApiSource):
                    self._share.followed.end(source)

    def _telling(self, source: FilesSource | ApiSource | SayingSource) -> Iterator[Coroutine[Any, Any, None]]:
        """What says what the platform does."""
        watched = self._watched
        if watched is not None and watched.pods is not None and isinstance(source, FilesSource | ApiSource):
            chronicle = Chronicle(source, watched.pods)
            watched.pods.listeners = [source.identities_changed, chronicle.wake]
            yield chronicle.run()
        cluster = self._share is None or self._share.shard.has_cluster
        if watched is not None and not isinstance(source, FilesSource) and cluster:
            tenants = Tenants(watched.api, watched.rules)
            yield tenants.run()
            yield RolloutTeller(source, watched.api, watched.rules, tenants.known).run()
            yield EventTeller(source, watched.api, watched.rules, tenants.known).run()

    @property
    def _what(self) -> str:
        return {
            "files": f"the files of node {self._node}",
            "api": "by the API server",
            "rollouts": "what there is to say of rollouts",
        }[self._settings.kubernetes.source]

    def _source(self, bus: KafkaBus) -> FilesSource | ApiSource | SayingSource:
        given, watched = self._settings.kubernetes, self._watched
        if watched is not None and given.source != "files":
            if watched.pods is None or self._share is None:
                return SayingSource(self._collector(bus))
            logs = ApiSource(watched.api, watched.pods, self._collector(bus), given.requests, watched.quota)
            self._share.followed.begin(logs)
            return logs
        limits = self._settings.collect.model_dump()
        identity = (watched and watched.pods) or ProcfileIdentity(self._settings.data.dir / "identity")
        files = FilesSource(
            FilesSettings(root=_root(self._settings), data=self._folder, node=self._node, **limits),
            bus,
            identity,
            stored_origins=self._store.origins,
            redact=self._redact,
            quota=watched.quota if watched is not None else None,
        )
        telemetry.follow_files(files)
        return files


def _root(settings: Settings) -> Path:
    """The folder of the files: a kubelet's, or that of a Procfile's processes."""
    return settings.kubernetes.pods if settings.kubernetes.node else settings.data.dir / "pods"


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold what one process alone may use: the folder where places are kept, and that of the files, under whatever
    names others look for them. Raises ConfigError where another process does.
    """
    with ExitStack() as held:
        held.enter_context(_held(settings.data.dir / "collector", made=True))
        if settings.kubernetes.source == "files":
            held.enter_context(_held(_root(settings), made=not settings.kubernetes.node))
        yield


@contextmanager
def _held(folder: Path, *, made: bool = False) -> Iterator[None]:
    """Lock a folder, which may be read-only. Raises ConfigError where it can't be used, or another process does."""
    try:
        if made:
            folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{folder} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"another process collects this node's files already ({folder})") from None
    finally:
        os.close(lock)
