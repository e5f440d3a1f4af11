"""ClickHouse's HTTP interface over the embedded engine.

    python -m tests.support.clickhouse_http FOLDER ADDRESS:PORT [PASSWORD [CERTIFICATE KEY]]

The engine, its SQL, its storage and its errors are ClickHouse's own; this is only the part that speaks HTTP, written
after https://clickhouse.com/docs/interfaces/http: statements in the body, in `query` or as a form, settings and
parameters in the query, compressed bodies, errors with `X-ClickHouse-Exception-Code`. So it can be reached over the
network, killed and started again. It has no users, grants, sessions, cancellation, streamed answers and replicas.
"""

import asyncio
import re
import ssl
import sys
import tempfile
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import NamedTuple

import chdb
import zstandard
from aiohttp import web

CONNECTIONS = 6
"""Statements that run at once; more wait."""

# Parameters that the interface itself takes; all others are settings.
OWN = frozenset(
    {
        "query",
        "default_format",
        "user",
        "password",
        "database",
        "buffer_size",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "quota_key",
        "compress",
        "decompress",
        "wait_end_of_query",
        "client_protocol_version",
        "role",
        "enable_http_compression",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
    }
)
STATUS = {60: 404, 62: 400, 81: 404, 497: 403, 516: 403}

_INSERT = re.compile(rb"\s*INSERT\s+INTO.{0,4000}?\sFORMAT\s+(\w+)\s*?\n", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)")


class Statement(NamedTuple):
    sql: str
    data: bytes
    compression: str
    """Content-Encoding of the data."""
    format: str
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


class Connection:
    """A connection to the engine that remembers what it was set to, as each request has settings of its own."""

    def __init__(self, path: str) -> None:
        self._engine = chdb.connect(path)
        self._settings: dict[str, str] = {}
        self._database = "default"

    def run(self, statement: Statement) -> tuple[bytes, int]:
        """The answer, and how many rows were read for it."""
        self._adopt(statement)
        if statement.data:
            return self._insert(statement), 0
        found = _FORMAT.search(statement.sql)
        name = found[1] if found else statement.format
        parameters = {"params": dict(statement.parameters)} if statement.parameters else {}
        result = self._engine.query(statement.sql, name, **parameters)
        return (result.bytes(), result.storage_rows_read()) if result is not None else (b"", 0)

    def _insert(self, statement: Statement) -> bytes:
        found = _FORMAT.search(statement.sql)
        assert found is not None
        compression = f"COMPRESSION {quoted(statement.compression)}" if statement.compression else ""
        with tempfile.NamedTemporaryFile() as file:
            file.write(statement.data)
            file.flush()
            source = f"FROM INFILE {quoted(file.name)} {compression} FORMAT {found[1]}"
            self._engine.query(statement.sql[: found.start()] + source)
        return b""

    def _adopt(self, statement: Statement) -> None:
        if statement.database != self._database:
            self._engine.query(f"USE `{statement.database.replace('`', '')}`")
            self._database = statement.database
        for name in self._settings.keys() - statement.settings.keys():
            self._engine.query(f"SET {identifier(name)} = DEFAULT")
            del self._settings[name]
        for name, value in statement.settings.items():
            if self._settings.get(name) != value:
                self._engine.query(f"SET {identifier(name)} = {quoted(value)}")
                self._settings[name] = value


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"Code: 115. DB::Exception: Unknown setting {text!r}. (UNKNOWN_SETTING)")
    return text


class Interface:
    def __init__(self, path: str, password: str) -> None:
        self._password = password
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(Connection(path))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        connection = self._idle.get()
        try:
            yield connection
        finally:
            self._idle.put(connection)

    def _run(self, statement: Statement) -> tuple[bytes, int]:
        with self._connection() as connection:
            return connection.run(statement)

    async def handle(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return failure("Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
        try:
            out, rows = await asyncio.to_thread(self._run, await statement_of(request))
        except Exception as error:  # noqa: BLE001 - whatever the engine refuses is the answer
            return failure(str(error))
        summary = f'{{"read_rows":"{rows}"}}'
        headers = {"X-ClickHouse-Summary": summary, "X-ClickHouse-Query-Id": request.query.get("query_id", "")}
        if request.query.get("enable_http_compression") == "1" and "zstd" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "zstd"
            out = zstandard.compress(out, 1)
        return web.Response(body=out, headers=headers)

    def _knows(self, request: web.Request) -> bool:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        try:
            given = b64decode(credentials).decode().partition(":")[2] if scheme == "Basic" else ""
        except (Base64Error, UnicodeDecodeError):
            return False
        return given == self._password


async def statement_of(request: web.Request) -> Statement:
    """Raises ValueError."""
    query = dict(request.query)
    if request.content_type == "multipart/form-data":
        query |= {name: str(value) for name, value in (await request.post()).items()}
        body = b""
    else:
        body = await request.read()
    sql = query.get("query", "")
    if not sql:
        found = _INSERT.match(body)
        head, body = (body[: found.end()], body[found.end() :]) if found else (body, b"")
        sql = head.decode()
    return Statement(
        sql=sql,
        data=body,
        compression=request.headers.get("Content-Encoding", ""),
        format=query.get("default_format", "TabSeparated"),
        database=query.get("database", "default"),
        settings={k: v for k, v in query.items() if k not in OWN and not k.startswith("param_")},
        parameters={k.removeprefix("param_"): v for k, v in query.items() if k.startswith("param_")},
    )


def failure(text: str) -> web.Response:
    found = _CODE.search(text)
    code = int(found[1]) if found else 1002  # UNKNOWN_EXCEPTION
    return web.Response(status=STATUS.get(code, 500), text=text, headers={"X-ClickHouse-Exception-Code": str(code)})


async def ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


def main(folder: str, place: str, password: str = "", *certificate: str) -> None:
    host, _, port = place.rpartition(":")
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/ping", ping)
    app.router.add_route("*", "/", Interface(folder, password).handle)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    web.run_app(app, host=host, port=int(port), print=None, ssl_context=context, auto_decompress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
