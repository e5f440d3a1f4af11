"""`logsvc collect`: the log files of one node to Kafka. One process a node."""

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from logsvc import telemetry
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka import KafkaBus
from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.service.epochs import is_stored, next_epoch, until_sealed
from logsvc.service.lifecycle import first_of, persist, say, signals
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.files import FilesSource
from logsvc.sources.kubernetes.settings import FilesSettings
from logsvc.sources.procfile.identity import ProcfileIdentity
from logsvc.store.protocol import StoreReader
from logsvc.store.server import ServerStore


async def collect(settings: Settings, node: str | None = None) -> int:
    """Collect until a signal comes; what is on its way then is acknowledged, and the place in every file is saved.

    Raises ConfigError where another process collects here already, BusError where Kafka can't be used.
    """
    folder = settings.data.dir / "collector"
    with signals() as stop, _only_one(folder):
        store = ServerStore(settings.clickhouse)
        try:
            async with Epochs.open(settings.kafka) as epochs:
                collecting = _Collecting(settings, epochs, store, node or socket.gethostname(), stop)
                await collecting.run()
        finally:
            await store.close()
    return 0


class _Collecting:
    """One node's files, epoch after epoch."""

    def __init__(self, settings: Settings, epochs: Epochs, store: StoreReader, node: str, stop: asyncio.Event) -> None:
        self._settings, self._epochs, self._store = settings, epochs, store
        self._folder, self._node = settings.data.dir / "collector", node
        self._stop = stop

    async def run(self) -> None:
        """Where an epoch was sealed, find out from it what was taken, and go on behind that in the next one."""
        epoch = await self._first()
        say(f"logsvc collects the files of node {self._node}")
        while not self._stop.is_set():
            async with KafkaBus.open(self._settings.kafka, epoch.number, writer=f"collect-{self._node}") as bus:
                if bus.sealed is None:
                    await self._collect(bus)
                if not self._stop.is_set():
                    # The bus hears of it by itself, and maybe a moment later.
                    await first_of(self._stop.wait(), self._take_stock(bus))
            await first_of(self._stop.wait(), next_epoch(self._epochs, epoch.number))
            epoch = self._epochs.all.get(epoch.number + 1, epoch)

    async def _take_stock(self, bus: KafkaBus) -> None:
        """Save the places up to which a sealed epoch has the files: the next one isn't begun before.

        Raises ConfigError where they can't be saved.
        """
        await until_sealed(bus.epochs, bus.epoch)
        collector = Collector(bus, self._node, self._checkpoint(), self._store.origins)
        await persist(collector.recover, "collection")
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

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._folder / "checkpoint", self._node)

    async def _collect(self, bus: KafkaBus) -> None:
        """Until the epoch is sealed or a signal comes."""
        data, limits = self._settings.data.dir, self._settings.collect.model_dump()
        source = FilesSource(
            FilesSettings(root=data / "pods", data=self._folder, node=self._node, **limits),
            bus,
            ProcfileIdentity(data / "identity"),
            stored_origins=self._store.origins,
        )
        telemetry.follow_files(source)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(source.run(), name="files")
            await first_of(self._stop.wait(), until_sealed(self._epochs, bus.epoch))
            source.stop()
            await running


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder of a node's collector. Raises ConfigError where another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"another process collects this node's files already ({folder})") from None
    finally:
        os.close(lock)
