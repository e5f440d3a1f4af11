"""A ClickHouse server, or several that hold the same, over HTTP: clickhouse-connect's async client.

A server that is away, slow or stopping is StoreAway, after the others were asked. Whoever writes tries again; whoever
reads says so. A statement that was cut off may have been run all the same: inserts and migrations may be repeated.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from clickhouse_connect import get_async_client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError
from yarl import URL
from zstandard import ZstdCompressor

from logsvc.config import ClickHouse
from logsvc.errors import ConfigError, StoreAway, StoreError
from logsvc.store import schema, sql
from logsvc.store.clickhouse import ClickHouseStore
from logsvc.store.engine import explain, rows_read

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

logger = logging.getLogger(__name__)

T = TypeVar("T")

WRITE_SETTINGS: Final = {
    **sql.WRITES,
    # Without it the status may be sent before the insert has failed.
    "wait_end_of_query": 1,
}
REPLICATED_READ: Final = {"select_sequential_consistency": 1}
"""A server answers only with everything that a majority has taken, so also what another writer inserted there."""
REPLICATED_WRITE: Final = {"insert_quorum": "auto", "insert_quorum_parallel": 0}
"""A majority of the servers has it when the insert returns. Not in parallel: else reads can't be sequential."""


class ServerEngine:
    """An Engine (see engine.py) on servers. Belongs to the event loop that it is first used in."""

    def __init__(self, settings: ClickHouse) -> None:
        """Reaches for nothing yet. Raises ConfigError for an address or a file that can't be used."""
        self._settings = settings
        self._servers = [_Server(settings, url) for url in settings.urls]
        self._preferred = self._servers[0]
        self._closed = False
        # On a cluster the second insert at a time into a table is refused: see REPLICATED_WRITE.
        self._inserting: AbstractAsyncContextManager[None] = asyncio.Lock() if settings.cluster else nullcontext()
        more_read, more_write = (REPLICATED_READ, REPLICATED_WRITE) if settings.cluster else ({}, {})
        seconds = {"max_execution_time": max(1, int(settings.read_timeout))}
        self._read_settings: dict[str, object] = {**sql.LIMITS, **seconds, **more_read}
        # With each statement, not with the client: that asks for the server's settings before the database is there.
        self._database = {"database": settings.database}
        self._write_settings: dict[str, object] = {**WRITE_SETTINGS, **more_write}

    async def query(
        self, sql: str, parameters: Mapping[str, object], count: Callable[[int], None] | None = None
    ) -> Sequence[Sequence[Any]]:
        return await self._query(sql, parameters, {**self._read_settings, **self._database}, count)

    async def ask(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[Sequence[Any]]:
        """A query that needs no database of ours."""
        return await self._query(sql, parameters or {}, self._read_settings)

    async def answer(self, sql: str) -> object:
        """The one value that a statement answers which is no SELECT."""
        return await self._run(lambda client: client.command(sql), self._settings.read_timeout)

    async def _query(
        self,
        sql: str,
        parameters: Mapping[str, object],
        settings: dict[str, object],
        count: Callable[[int], None] | None = None,
    ) -> Sequence[Sequence[Any]]:
        async def send(client: "AsyncClient") -> Sequence[Sequence[Any]]:
            result = await client.query(sql, dict(parameters), settings, query_formats={"*String": "bytes"})
            if count is not None:
                count(rows_read(result.summary))
            columns: Sequence[Sequence[Any]] = result.result_columns
            return columns

        return await self._run(send, self._settings.read_timeout)

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        compression = "zstd" if self._settings.compress else None
        if compression:
            rows = await asyncio.to_thread(lambda: ZstdCompressor(level=1).compress(rows))

        async def send(client: "AsyncClient") -> None:
            settings = {**self._write_settings, **self._database}
            await client.raw_insert(table, columns, rows, settings, fmt="RowBinary", compression=compression)

        async with self._inserting:
            await self._run(send, self._settings.write_timeout)

    async def command(self, sql: str) -> None:
        await self._run(lambda client: client.command(sql, settings=self._database), self._settings.write_timeout)

    async def create_database(self) -> None:
        """Where it isn't there yet."""
        cluster = f" ON CLUSTER '{self._settings.cluster}'" if self._settings.cluster else ""
        statement = f"CREATE DATABASE IF NOT EXISTS {self._settings.database}{cluster}"
        await self._run(lambda client: client.command(statement), self._settings.write_timeout)

    async def drop_database(self) -> None:
        """With everything in it."""
        statement = f"DROP DATABASE IF EXISTS {self._settings.database} SYNC"
        await self._run(lambda client: client.command(statement), self._settings.write_timeout)

    async def _run(self, work: "Callable[[AsyncClient], Awaitable[T]]", timeout: float) -> T:
        """Do it on the server that answered last, else on the next one."""
        problem = StoreAway("the store can't be reached")
        for server in self._in_order():
            try:
                async with asyncio.timeout(timeout):
                    result = await work(await server.client())
            except TimeoutError:
                problem = StoreAway("the store did not answer in time")
            except Exception as error:
                reason = _explain(error)
                if not isinstance(reason, StoreAway):
                    raise reason from error
                problem = reason
                problem.__cause__ = error
            else:
                self._preferred = server
                return result
        raise problem

    def _in_order(self) -> "Iterator[_Server]":
        if self._closed:
            raise StoreError("the store is not open")
        first = self._servers.index(self._preferred)
        yield from self._servers[first:] + self._servers[:first]

    async def close(self) -> None:
        """Safe to call twice."""
        self._closed = True
        for server in self._servers:
            await server.close()


class _Server:
    """The client of one server, made when it is first needed, and again until that succeeds."""

    def __init__(self, settings: ClickHouse, address: str) -> None:
        try:
            url = URL(address)
            host, port = url.host, url.port
        except ValueError:
            host, port = None, None
        if not host or url.scheme not in {"http", "https"} or url.user or url.password or url.query:
            raise ConfigError("clickhouse.urls: an address looks like https://host:8443, without a user and password")
        if settings.ca_file and not Path(settings.ca_file).is_file():
            raise ConfigError(f"clickhouse.ca_file: there is no file {settings.ca_file}")
        self._settings = settings
        self._where: dict[str, Any] = {"interface": url.scheme, "host": host, "port": port, "proxy_path": url.path}
        self._lock = asyncio.Lock()
        self._client: AsyncClient | None = None

    async def client(self) -> "AsyncClient":
        async with self._lock:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> "AsyncClient":
        settings = self._settings
        return await get_async_client(
            **self._where,
            username=settings.user,
            password=settings.password.get_secret_value(),
            ca_cert=settings.ca_file or None,
            connect_timeout=settings.connect_timeout,
            send_receive_timeout=max(settings.read_timeout, settings.write_timeout),
            compress="zstd" if settings.compress else False,
            autogenerate_session_id=False,
            client_name="logsvc",
        )

    async def close(self) -> None:
        async with self._lock:
            if self._client is not None:
                await self._client.close()
                self._client = None


def _explain(error: Exception) -> StoreError:
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return StoreAway("the store's certificate is not one that is trusted here: see clickhouse.ca_file")
    if isinstance(error, ProgrammingError) and error.code is None:
        return StoreError(f"the store's client refused: {error}")
    if isinstance(error, DatabaseError) and not isinstance(error, OperationalError) and error.code is None:
        return StoreAway("something in front of the store answers in its place")
    return explain(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class ServerStore(ClickHouseStore):
    """A Store (see protocol.py) on servers. Its tables are there once somebody has called `migrate`."""

    def __init__(self, settings: ClickHouse, keep: Mapping[int, int] | None = None) -> None:
        """`keep` is the retention in days by class. Raises ConfigError for an address that can't be used."""
        self._server = ServerEngine(settings)
        super().__init__(self._server, keep, cluster=settings.cluster, views=True)

    @classmethod
    async def open(cls, settings: ClickHouse, keep: Mapping[int, int] | None = None) -> Self:
        """A store whose schema fits; where no server can be reached, that is looked at when one can.

        So a role starts while ClickHouse is away. Raises ConfigError, WrongSchema, StoreError.
        """
        store = cls(settings, keep)
        store._engine = _FittingEngine(store._server)
        try:
            await store.require()
        except StoreAway as error:
            logger.warning("starting without history: %s", error)
        except BaseException:
            await store.close()
            raise
        return store

    async def migrate(self) -> None:
        """Make the database and bring its schema up to date. Raises WrongSchema where it is a newer logsvc's."""
        await self._server.create_database()
        await schema.migrate(self._server, schema.migrations(), self._cluster)

    async def require(self) -> None:
        """Raises WrongSchema where the schema is not the one that this logsvc needs."""
        await schema.require(self._server, schema.migrations())


class _FittingEngine:
    """An Engine that runs nothing until it has seen that the schema is the right one."""

    def __init__(self, engine: ServerEngine) -> None:
        self._engine = engine
        self._fits = False

    async def _look(self) -> None:
        if not self._fits:
            await schema.require(self._engine, schema.migrations())
            self._fits = True

    async def query(
        self, sql: str, parameters: Mapping[str, object], count: Callable[[int], None] | None = None
    ) -> Sequence[Sequence[Any]]:
        await self._look()
        return await self._engine.query(sql, parameters, count)

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        await self._look()
        await self._engine.insert(table, columns, rows)

    async def command(self, sql: str) -> None:
        await self._look()
        await self._engine.command(sql)

    async def close(self) -> None:
        await self._engine.close()
