"""The drains of one machine, in a file of SQLite in the data folder.

It has one table, the keys and values of which are those of the records on Kafka (`docs/formats.md`). A commit goes to
SQLite's write-ahead log without a flush (`synchronous=NORMAL`): a crash of the process loses nothing, and what a power
loss takes is the last second or so, whole changes at a time. So frames may be sent again after that.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from logsvc.drains.model import Drain, DrainStatus, Position
from logsvc.drains.records import DRAIN, DrainTable, drain_key, position_key, positions_of, status_key, told_of
from logsvc.drains.registry import Change, ShareLost
from logsvc.drains.watched import Watched
from logsvc.errors import BusError, ConfigError
from logsvc.together import Together

_TABLE: Final = "CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_PUT: Final = "INSERT OR REPLACE INTO records VALUES (?, ?)"
_DROP: Final = "DELETE FROM records WHERE key = ?"


class LocalDrains:
    """Both a `Registry` and `Positions`, of one share. Made by `open`; one at a time of a folder."""

    shares = 1

    def __init__(self, file: sqlite3.Connection, pool: ThreadPoolExecutor, records: dict[bytes, bytes]) -> None:
        self._file, self._pool = file, pool
        self._records = records
        """As they are on the disk."""
        self._waiting: dict[bytes, bytes | None] = {}
        """What is to be written next; None for what goes."""
        self._write = Together(self._commit)
        self._changing = asyncio.Lock()
        self._table = DrainTable()
        self._table.update(records)
        self._drains = Watched(self._table.drains)
        self._holder: _LocalShare | None = None
        self._assigned = Watched(frozenset({0}))

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator["LocalDrains"]:
        """Use the file in a folder, or make it. Raises ConfigError where it can't be used, NewerFormat."""
        with ThreadPoolExecutor(1, thread_name_prefix="drains") as pool:
            loop = asyncio.get_running_loop()
            file, records = await loop.run_in_executor(pool, _open, folder / "drains.sqlite")
            try:
                drains = cls(file, pool, records)
                yield drains
            finally:
                await loop.run_in_executor(pool, file.close)

    # ---- the registry

    @property
    def drains(self) -> Mapping[str, Drain]:
        return self._drains.value

    async def changed(self, seen: Mapping[str, Drain]) -> Mapping[str, Drain]:
        """See `Registry.changed`."""
        return await self._drains.changed(seen)

    async def refreshed(self) -> Mapping[str, Drain]:
        """See `Registry.refreshed`; nobody else makes changes."""
        return self.drains

    async def change(self, change: Change) -> Drain | None:
        """See `Registry.change`."""
        async with self._changing:
            drain = change(self.drains)
            if drain is not None:
                await self._put({drain_key(drain.id): drain.encode()})
            return drain

    async def remove(self, drain: str) -> bool:
        """See `Registry.remove`."""
        async with self._changing:
            if drain not in self.drains:
                return False
            await self._put({drain_key(drain): None})
            return True

    async def statuses(self, drains: list[Drain]) -> Mapping[str, DrainStatus]:
        """See `Registry.statuses`."""
        found = {drain.id: self._records.get(status_key(drain.id)) for drain in drains}
        return {name: DrainStatus.parse(value) for name, value in found.items() if value is not None}

    # ---- positions

    @property
    def assigned(self) -> frozenset[int]:
        return self._assigned.value

    async def reassigned(self, seen: frozenset[int]) -> frozenset[int]:
        """See `Positions.reassigned`; there is no other process, so it never returns."""
        return await self._assigned.changed(seen)

    @asynccontextmanager
    async def hold(self, share: int) -> AsyncIterator["_LocalShare"]:
        """See `Positions.hold`."""
        holder = self._holder = _LocalShare(self, share, self._records)
        try:
            yield holder
        finally:
            if self._holder is holder:
                self._holder = None

    async def put_by(self, holder: "_LocalShare", changes: Mapping[bytes, bytes | None]) -> None:
        """Write what a share says. Raises ShareLost, BusError."""
        if self._holder is not holder:
            raise ShareLost("these drains are delivered by somebody else now")
        await self._put(changes)

    # ---- the file

    async def _put(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Durable, and in `drains`, on return; what is put together is written together."""
        self._waiting |= changes
        await self._write(None)
        if any(key.startswith(DRAIN) for key in changes):
            self._table.update(self._records)
            self._drains.set(self._table.drains)

    async def _commit(self, _: None) -> None:
        taken = dict(self._waiting)
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, _write, self._file, taken)
        except sqlite3.Error as error:
            raise BusError(f"the file of drains can't be written: {error}") from error
        for key, value in taken.items():
            if self._waiting.get(key, b"") is value:  # else it was put anew meanwhile
                del self._waiting[key]
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value


class _LocalShare:
    """See `Share`."""

    def __init__(self, drains: LocalDrains, number: int, records: Mapping[bytes, bytes]) -> None:
        self._drains = drains
        self.number = number
        self.kept = told_of(records)
        self._positions = positions_of(records)

    def position(self, drain: str) -> Position | None:
        return self._positions.get(drain)

    async def save(self, drain: str, position: Position) -> None:
        await self._drains.put_by(self, {position_key(drain): position.encode()})
        self._positions[drain] = position

    async def report(self, drain: str, status: DrainStatus) -> None:
        await self._drains.put_by(self, {status_key(drain): status.encode()})

    async def forget(self, drain: str) -> None:
        await self._drains.put_by(self, {position_key(drain): None, status_key(drain): None})
        self._positions.pop(drain, None)


def _open(path: Path) -> tuple[sqlite3.Connection, dict[bytes, bytes]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(path, isolation_level=None)  # used by one thread, the pool's
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute(_TABLE)
        with closing(file.execute("SELECT key, value FROM records")) as rows:
            return file, {bytes(key): bytes(value) for key, value in rows}
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"the file of drains {path} can't be used: {error}") from error


def _write(file: sqlite3.Connection, changes: Mapping[bytes, bytes | None]) -> None:
    """All of it or nothing. Raises sqlite3.Error."""
    if not changes:
        return
    file.execute("BEGIN IMMEDIATE")
    try:
        file.executemany(_PUT, [(key, value) for key, value in changes.items() if value is not None])
        file.executemany(_DROP, [(key,) for key, value in changes.items() if value is None])
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
