"""A ClickHouse server, or several that hold the same, over HTTP: clickhouse-connect's async client.

A server that is away, slow or stopping is StoreAway, after the others were asked. Whoever writes tries again; whoever
reads says so. A statement that was cut off may have been run all the same: inserts and migrations may be repeated.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from yarl import URL
from zstandard import ZstdCompressor

from logsvc.config import ClickHouse
from logsvc.errors import ConfigError, StoreAway, StoreError
from logsvc.store import schema, sql
from logsvc.store.clickhouse import ClickHouseStore
from logsvc.store.engine import explain

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

T = TypeVar("T")

READ_SETTINGS: Final = {**sql.LIMITS}
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
        more_read, more_write = (REPLICATED_READ, REPLICATED_WRITE) if settings.cluster else ({}, {})
        seconds = {"max_execution_time": max(1, int(settings.read_timeout))}
        self._read_settings: dict[str, object] = {**READ_SETTINGS, **seconds, **more_read}
        self._write_settings: dict[str, object] = {**WRITE_SETTINGS, **more_write}

    async def query(self, sql: str, parameters: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        async def ask(client: "AsyncClient") -> Sequence[Sequence[Any]]:
            formats = {"*String": "bytes"}
            result = await client.query(sql, dict(parameters), settings=self._read_settings, query_formats=formats)
            columns: Sequence[Sequence[Any]] = result.result_columns
            return columns

        return await self._run(ask, self._settings.read_timeout)

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        compression = "zstd" if self._settings.compress else None
        if compression:
            rows = await asyncio.to_thread(lambda: ZstdCompressor(level=1).compress(rows))

        async def send(client: "AsyncClient") -> None:
            settings = dict(self._write_settings)
            await client.raw_insert(table, columns, rows, settings, fmt="RowBinary", compression=compression)

        await self._run(send, self._settings.write_timeout)

    async def command(self, sql: str) -> None:
        await self._run(lambda client: client.command(sql), self._settings.write_timeout)

    async def create_database(self) -> None:
        """Where it isn't there yet."""
        cluster = f" ON CLUSTER '{self._settings.cluster}'" if self._settings.cluster else ""
        statement = f"CREATE DATABASE IF NOT EXISTS {self._settings.database}{cluster}"
        await self._run(lambda client: client.command(statement, use_database=False), self._settings.write_timeout)

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
        from clickhouse_connect import get_async_client  # noqa: PLC0415  # half a second, for those that need no server

        settings = self._settings
        client = await get_async_client(
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
        # Not as an argument: the client asks for the server's settings first, and the database may not be there yet.
        client.database = settings.database
        return client

    async def close(self) -> None:
        async with self._lock:
            if self._client is not None:
                await self._client.close()
                self._client = None


def _explain(error: Exception) -> StoreError:
    from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError  # noqa: PLC0415

    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return StoreAway("the store's certificate is not one that is trusted here: see clickhouse.ca_file")
    if isinstance(error, ProgrammingError) and error.code is None:
        return StoreError(f"the store's user may not use a setting that logsvc needs: {error}")
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
        super().__init__(self._server, keep, cluster=settings.cluster)

    @classmethod
    async def open(cls, settings: ClickHouse, keep: Mapping[int, int] | None = None) -> Self:
        """A store whose schema fits. Raises ConfigError, StoreAway, WrongSchema."""
        store = cls(settings, keep)
        try:
            await store.require()
        except BaseException:
            await store.close()
            raise
        return store

    async def migrate(self) -> None:
        """Make the database and bring its schema up to date. Raises WrongSchema where it is a newer logsvc's."""
        await self._server.create_database()
        await super().migrate()

    async def require(self) -> None:
        """Raises WrongSchema where the schema is not the one that this logsvc needs."""
        await schema.require(self._server, schema.migrations())
