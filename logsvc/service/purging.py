"""Removing an app's lines for good: for apps that were deleted, and for whom the law asks it of.

First a purge is written down where every process hears of it: from then on nobody reads or stores what it covers. Then
the rows are deleted, and again once everything in front of it has been through the writers: an insert that was under
way escapes the first time.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson

from logsvc.bus.controls import purge_record
from logsvc.bus.epochs import Epochs
from logsvc.bus.local import LocalBus
from logsvc.bus.protocol import Bus
from logsvc.bus.segment import sync_folder
from logsvc.errors import BusError, ConfigError, LogsvcError, StoreError
from logsvc.model import AppId, Cursor
from logsvc.purges import Purge, Purges
from logsvc.service.epochs import is_stored
from logsvc.store.protocol import Store, StoreReader

_HOUR: Final = 3600.0
_RECENT: Final = 30 * 86_400_000
"""Milliseconds for which rows of a purge are looked for: longer than the bus keeps what could be stored late."""
_LOOK: Final = 0.5
"""Seconds between two looks at whether everything in front of a purge is stored."""
_AGAIN: Final = 15.0
"""Seconds from a try that failed to the next."""

log = logging.getLogger(__name__)

Passed = Callable[[Purge], Awaitable[bool]]
"""Whether the store's writers have dealt with everything in front of a purge. Raises BusError, StoreError."""


class LocalPurges:
    """Those of one process, kept in a file of its data folder: JSON, replaced as a whole."""

    def __init__(self, bus: LocalBus, path: Path) -> None:
        """Raises ConfigError where the file can't be used: lines that were removed would be seen again."""
        self.purges = Purges()
        self._bus, self._path = bus, path
        self._saving = asyncio.Lock()
        try:
            for entry in orjson.loads(path.read_bytes()) if path.exists() else ():
                self.purges.add(_parsed(entry))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} says what was removed for good, and can't be read: restore it") from error

    async def remove(self, app: AppId) -> Purge:
        """Remove what the app has written until now. Durable, and read by nobody any more, on return. Raises BusError.

        The journal's file begins anew, so that the old one goes from the disk once the store has dealt with it.
        """
        at = time.time_ns() // 1_000_000
        partition = app.partition(self._bus.partitions)
        purge = Purge(app, Cursor(self._bus.epoch, partition, await self._bus.turn(partition), -1), at)
        async with self._saving:
            entries = [_entry(known) for known in self.purges.since(0) if known.app != app]
            try:
                await asyncio.to_thread(_replace, self._path, orjson.dumps([*entries, _entry(purge)]))
            except OSError as error:
                raise BusError(f"{self._path} can't be written: {error.strerror}") from error
            self.purges.add(purge)
        return purge

    async def passed(self, purge: Purge) -> bool:
        return await self._bus.watermark(purge.before.partition) >= purge.before.offset


async def remove_everywhere(epochs: Epochs, bus: Bus, app: AppId) -> Purge:
    """Remove what the app has written until now; `bus` is the epoch that takes lines. Raises BusError.

    Durable on return; every process hears of it within a second.
    """
    at = time.time_ns() // 1_000_000
    partition = app.partition(bus.partitions)
    purge = Purge(app, Cursor(bus.epoch, partition, (await bus.bounds(partition)).end, -1), at)
    await epochs.write(*purge_record(purge))
    return purge


async def passed_on_servers(epochs: Epochs, store: StoreReader, purge: Purge) -> bool:
    """See Passed: as the writers have recorded it, in this epoch and in those before."""
    for number, epoch in sorted(epochs.all.items()):
        if number < purge.before.epoch and not await is_stored(epoch, store):
            return False
    marks = await store.watermarks(purge.before.epoch)
    return marks.get(purge.before.partition, 0) >= purge.before.offset


async def erase(purges: Purges, store: Store, passed: Passed) -> None:
    """Delete rows of purges as they come, until cancelled. Any number of processes may do so.

    Each at once, again when the writers are past it, and every hour: a writer that was held up may come late.
    """
    news = asyncio.Event()
    purges.follow(lambda _: news.set())
    due: dict[Purge, float] = {}
    """When to look for rows of each again, on the clock of the loop."""
    time_of_loop = asyncio.get_running_loop().time
    while True:
        news.clear()
        recent = purges.since(time.time_ns() // 1_000_000 - _RECENT)
        due = {purge: due.get(purge, 0.0) for purge in recent}
        for purge in [purge for purge, at in due.items() if at <= time_of_loop()]:
            due[purge] = time_of_loop() + await _erased(purge, store, passed)
        try:
            async with asyncio.timeout_at(min(due.values(), default=None)):
                await news.wait()
        except TimeoutError:
            pass


async def _erased(purge: Purge, store: Store, passed: Passed) -> float:
    """Delete its rows; the seconds until more may have come."""
    try:
        done = await passed(purge)
        if await store.purge(purge):
            log.info("lines of app %s of tenant %s were deleted from the store", purge.app.app, purge.app.tenant)
    except (BusError, StoreError) as error:
        log.warning("what was removed for good can't be deleted from the store yet: %s", error)
        return _AGAIN
    return _HOUR if done else _LOOK


async def erased(purge: Purge, store: Store, passed: Passed, seconds: float) -> bool:
    """Delete its rows, and go on until no more can come, at most for so many seconds; whether that was reached.

    Raises StoreError, BusError.
    """
    end = time.monotonic() + seconds
    while True:
        done = await passed(purge)
        await store.purge(purge)
        if done or time.monotonic() >= end:
            return done
        await asyncio.sleep(_LOOK)


def _entry(purge: Purge) -> dict[str, Any]:
    return {"tenant": purge.app.tenant, "app": purge.app.app, "before": str(purge.before), "at": purge.at}


def _parsed(entry: dict[str, Any]) -> Purge:
    try:
        return Purge(AppId(str(entry["tenant"]), str(entry["app"])), Cursor.parse(entry["before"]), int(entry["at"]))
    except LogsvcError as error:
        raise ValueError(str(error)) from error


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
