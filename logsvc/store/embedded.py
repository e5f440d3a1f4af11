"""The real ClickHouse engine inside this process: chdb, behind threads of its own.

chdb's calls block, and release the GIL while they do. So one thread inserts and a few read, each with a client of its
own; the event loop never waits. A process holds one engine, so one data folder.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from logsvc.errors import ConfigError, StoreError
from logsvc.store import sql
from logsvc.store.clickhouse import ClickHouseStore
from logsvc.store.engine import DAMAGED, explain, rows_read

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

T = TypeVar("T")

DATABASE: Final = "logsvc"

READERS: Final = 3
"""Threads that read."""

ENGINE_OPTIONS: Final = {
    # Caches of a server with hundreds of GB are the default; these keep the footprint of one process small.
    "mark_cache_size": 16 * 1024 * 1024,
    "primary_index_cache_size": 16 * 1024 * 1024,
    "index_mark_cache_size": 4 * 1024 * 1024,
    "max_server_memory_usage": 800_000_000,
    "background_pool_size": 1,
    "max_thread_pool_size": 200,
}

READ_SETTINGS: Final = {
    **sql.LIMITS,
    # Mapping each column's file of each part, as chdb does by default, costs more than reading the few blocks wanted.
    "local_filesystem_read_method": "pread",
    "storage_file_read_method": "pread",
    # Both pay off where millions of rows are read at once; a page is some hundred.
    "compile_expressions": 0,
    "read_in_order_use_buffering": 0,
}

WRITE_SETTINGS: Final = {**sql.WRITES, "max_threads": 1, "max_insert_threads": 1}


class EmbeddedEngine:
    """An Engine (see engine.py) on a data folder."""

    def __init__(self, path: Path, readers: int = READERS) -> None:
        """`path` is made where it is missing. Opens nothing yet."""
        self._path = path
        self._reads = ThreadPoolExecutor(readers, "store-read")
        self._writes = ThreadPoolExecutor(1, "store-write")
        self._writer: Client | None = None
        self._readers: SimpleQueue[Client] = SimpleQueue()
        self._reader_count = readers
        self._closed = False

    async def open(self) -> None:
        """Import the engine and open the folder. Raises ConfigError, StoreError."""
        await self._run(self._writes, self._open)

    def _open(self) -> None:
        from clickhouse_connect.driver.exceptions import ProgrammingError  # noqa: PLC0415  # see _connect

        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store in {self._path} can't use its files: {error.strerror}") from error
        try:
            self._writer = _connect(self._path, WRITE_SETTINGS)
            for _ in range(self._reader_count):
                self._readers.put(_connect(self._path, READ_SETTINGS))
        except ImportError as error:
            raise ConfigError("the embedded store needs chdb: pip install 'logsvc[embedded]'") from error
        except ProgrammingError as error:  # the engine writes its reason to stderr, and does not return it
            if "already initialized" in str(error):
                raise ConfigError("this process has a store open in another folder") from error
            if _in_use(self._path):
                raise ConfigError(f"another process uses the store in {self._path}") from error
            raise StoreError(f"{DAMAGED} ({self._path})") from error

    async def query(
        self, sql: str, parameters: Mapping[str, object], count: Callable[[int], None] | None = None
    ) -> Sequence[Sequence[Any]]:
        columns, rows = await self._run(self._reads, lambda: self._query(sql, dict(parameters)))
        if count is not None:
            count(rows)
        return columns

    def _query(self, sql: str, parameters: dict[str, object]) -> tuple[Sequence[Sequence[Any]], int]:
        client = self._readers.get()
        try:
            result = client.query(sql, parameters, query_formats={"*String": "bytes"})
        finally:
            self._readers.put(client)
        return result.result_columns, rows_read(result.summary)

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        await self._run(self._writes, lambda: self._write().raw_insert(table, columns, rows, fmt="RowBinary"))

    async def command(self, sql: str) -> None:
        await self._run(self._writes, lambda: self._write().command(sql))

    def _write(self) -> "Client":
        if self._writer is None:
            raise StoreError("the store is not open")
        return self._writer

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError("the store is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except (StoreError, ConfigError):
            raise
        except Exception as error:
            raise explain(error) from error

    async def close(self) -> None:
        """Wait for what runs, then close the folder. Safe to call twice."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reads.shutdown()
        self._writes.shutdown()
        while not self._readers.empty():
            self._readers.get().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _in_use(path: Path) -> bool:
    """Whether somebody holds the engine's lock on the folder."""
    try:
        with (path / "status").open("rb") as status:
            flock(status, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _connect(path: Path, settings: Mapping[str, object]) -> "Client":
    from clickhouse_connect import get_client  # noqa: PLC0415  # the engine takes a second and 250 MB to import

    client = get_client(interface="chdb", path=str(path), chdb_options=dict(ENGINE_OPTIONS), settings=dict(settings))
    client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    client.database = DATABASE
    # What the client takes for rows read are those of the result; a test in tests/contract/store.py notices a change.
    client._backend._summary = _summary  # type: ignore[attr-defined]  # noqa: SLF001 - no other way to the figure
    return client


def _summary(result: Any) -> dict[str, str]:
    """Of chdb's result, what a server says in `X-ClickHouse-Summary`."""
    return {"read_rows": str(result.storage_rows_read())}


class EmbeddedStore(ClickHouseStore):
    """A Store (see protocol.py) in a folder of this machine."""

    @classmethod
    async def open(cls, path: Path, keep: Mapping[int, int] | None = None) -> "EmbeddedStore":
        """Open the folder and bring its schema up to date. `keep` is the retention in days by class.

        Raises ConfigError where chdb is not installed, StoreError where the folder can't be used.
        """
        engine = EmbeddedEngine(path)
        store = cls(engine, keep)
        try:
            await engine.open()
            await store.migrate()
        except BaseException:
            await store.close()
            raise
        return store
