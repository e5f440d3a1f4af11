"""`logsvc dev`: everything in one process, on a journal and the embedded engine."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from logsvc import telemetry
from logsvc.api.context import LOCAL_TENANT, Context
from logsvc.api.server import listening
from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.config import Settings
from logsvc.console import Screening, show
from logsvc.drains.engine import Engine
from logsvc.drains.local import LocalDrains
from logsvc.errors import ConfigError
from logsvc.model import AppId
from logsvc.router import Router
from logsvc.service.access import access_of, require_tokens
from logsvc.service.drains import delivering, drains_of
from logsvc.service.lifecycle import say, settle, signals
from logsvc.service.procfile import make_runner, until_stopped
from logsvc.service.purging import LocalPurges, erase
from logsvc.service.retention import retain
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from logsvc.sources.procfile.identity import ProcfileIdentity, prune
from logsvc.sources.procfile.mending import mend
from logsvc.sources.procfile.runner import ProcfileRunner
from logsvc.sources.push import PushSource
from logsvc.sources.redaction import redaction
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.writer import StoreLoop
from logsvc.timeline import Tiers, Timeline

_DRAIN_SECONDS: Final = 5.0
"""How long a stop waits for the bus to take the last lines. What it doesn't take is collected at the next start."""
_NODE: Final = "local"
"""Names the machine in origins. Not the host's name: that may change, and the files would be read again."""


@dataclass(frozen=True, slots=True)
class Development:
    """What `logsvc dev` was asked for."""

    settings: Settings
    procfile: Path | None = None
    app: str = "demo"
    scale: tuple[str, ...] = ()


async def develop(asked: Development) -> int:
    """Run the whole service in one process, and the processes of a Procfile; returns the exit status.

    It stops in the order in which lines flow: processes, collection, tails, store, bus. So the last line of the last
    process is still shown and kept. Raises ConfigError, BusError or StoreError where it can't start.
    """
    host = asked.settings.http.host
    require_tokens(asked.settings)
    reading = _Reading()
    runner = None
    if asked.procfile:
        runner = make_runner(asked.settings, asked.procfile, asked.app, asked.scale, reading.collected)
    async with _core(asked.settings) as core, asyncio.TaskGroup() as background:
        tasks = [
            background.create_task(core.router.run(), name="router"),
            background.create_task(core.writer.run(), name="store"),
            background.create_task(retain(core.store), name="retention"),
            background.create_task(erase(core.purges.purges, core.store, core.purges.passed), name="purges"),
            background.create_task(core.engine.run(), name="drains"),
        ]
        try:
            async with listening(core.context, host, asked.settings.http.port, asked.settings.http.grace) as url:
                core.context.ready.set()
                settle()
                say(_greeting(url, asked))
                try:
                    return await _collect(asked, core, runner, reading)
                finally:
                    core.context.stopping.set()
                    core.context.tiers.wake()
        finally:
            for task in tasks:
                task.cancel()


class _Reading:
    """Who can say what may be deleted: the source, which begins after the runner was made."""

    source: FilesSource | None = None

    def collected(self, path: Path) -> bool:
        return self.source is not None and self.source.collected(path)


@dataclass(frozen=True, slots=True)
class _Core:
    """What stands behind the API."""

    bus: LocalBus
    store: EmbeddedStore
    writer: StoreLoop
    purges: LocalPurges
    router: Router
    engine: Engine
    context: Context


@asynccontextmanager
async def _core(settings: Settings) -> AsyncIterator[_Core]:
    data, tail = settings.data.dir, settings.tail
    bus_settings = LocalSettings(**settings.bus.model_dump(exclude={"partitions"}))
    async with AsyncExitStack() as stack:
        opened = LocalBus.open(data / "bus", partitions=settings.bus.partitions, settings=bus_settings)
        bus = await stack.enter_async_context(opened)
        store = await EmbeddedStore.open(data / "store", dict(enumerate(settings.store.retention_days)))
        stack.push_async_callback(store.close)
        await _check_same_age(bus, store)
        router = Router(
            bus,
            window_bytes=tail.window_bytes,
            linger=tail.linger,
            heartbeat=tail.heartbeat,
            cold_lag=tail.cold_lag,
        )
        stack.push_async_callback(router.close)
        push = PushSource(bus, store, redact=redaction(settings.redact))
        removing = LocalPurges(bus, data / "purges")
        writer = StoreLoop(bus.group(), store, bus.epoch, purges=removing.purges)
        telemetry.follow_bus(bus)
        telemetry.follow_store(writer)
        telemetry.follow_routers([router])
        access = await stack.enter_async_context(access_of(settings))
        tiers = Tiers(bus, store, router, purges=removing.purges)
        kept = await stack.enter_async_context(LocalDrains.open(data))
        drains = await stack.enter_async_context(drains_of(settings, kept))
        means = await stack.enter_async_context(delivering(settings, tiers))
        context = Context(
            tiers, push, removing.remove, drains, access, heartbeat=tail.heartbeat, max_tails=tail.max_tails
        )
        removing.purges.follow(context.forget)
        yield _Core(bus, store, writer, removing, router, Engine(kept, kept, means), context)


async def _check_same_age(bus: LocalBus, store: EmbeddedStore) -> None:
    """Offsets must never be given out twice: lines would take the places of others in history."""
    for partition, stored in (await store.watermarks(bus.epoch)).items():
        if stored > (await bus.bounds(partition)).end:
            raise ConfigError(
                "the store holds lines of a journal that is not here: bus/ and store/ in the data folder are one. "
                "Put back the one that is missing, or move the whole data folder away to start anew"
            )


async def _collect(asked: Development, core: _Core, runner: ProcfileRunner | None, reading: _Reading) -> int:
    """Run the processes and collect what they write, until a signal or the end of the release step."""
    with signals() as stop:
        if runner is None:
            await stop.wait()
            return 0
        data, limits = asked.settings.data.dir, asked.settings.collect.model_dump()
        await asyncio.to_thread(_mend, data)
        source = reading.source = FilesSource(
            FilesSettings(root=data / "pods", data=data / "collector", node=_NODE, **limits),
            core.bus,
            ProcfileIdentity(data / "identity"),
            stored_origins=core.store.origins,
            redact=redaction(asked.settings.redact),
        )
        telemetry.follow_files(source)
        timeline = Timeline(AppId(LOCAL_TENANT, asked.app), core.context.tiers)
        screening = Screening()
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(source.run(), name="files")
            showing = group.create_task(show(timeline, core.router, sys.stdout.buffer, screening), name="console")
            await screening.begun.wait()
            pruning = group.create_task(_prune(source, data), name="prune")
            status = await until_stopped(runner, stop)
            pruning.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await source.drained()
            source.stop()
            await asyncio.wait([collecting])
            screening.over.set()
            core.router.wake()
            await asyncio.wait([showing])
        return status


def _mend(data: Path) -> None:
    """End what a `kill -9` left unfinished in the logs; where the disk refuses, at a later start."""
    with suppress(OSError):
        mend(data / "pods", data / "identity", time.time_ns())


async def _prune(source: FilesSource, data: Path) -> None:
    """Remove the logs of earlier runs once the bus has all of them; where the system refuses, at a later start."""
    await source.drained()
    with suppress(OSError):
        await asyncio.to_thread(prune, data / "pods", data / "identity", source.collected)


def _greeting(url: str, asked: Development) -> str:
    port = "" if url.endswith(":8080") else f"PAAS_URL={url} "
    return f"""logsvc is ready at {url} (Ctrl-C stops it). In a second terminal:

    {port}.venv/bin/paas logs --tail -a {asked.app}

or in a browser: {url}/apps/{asked.app}
"""
