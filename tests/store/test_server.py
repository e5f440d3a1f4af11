"""A store on a ClickHouse server keeps the contract of every store.

The server is the engine behind HTTP (tests/support/clickhouse.py), or with `LOGSVC_TEST_CLICKHOUSE` a real one.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr
from yarl import URL

from logsvc.config import ClickHouse as Settings
from logsvc.store.protocol import Store
from logsvc.store.server import ServerEngine, ServerStore
from tests.contract.store import StoreContract
from tests.support.clickhouse import SERVER, ClickHouse

DATABASE = f"logsvc_test_{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    if SERVER:
        url = URL(SERVER)
        user, password = url.user or "default", SecretStr(url.password or "")
        settings = Settings(urls=[str(url.with_user(None))], user=user, password=password, database=DATABASE)
        yield settings
        asyncio.run(drop_database(settings))
    else:
        with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as server:
            yield Settings(urls=[server.url], database=DATABASE)


async def drop_database(settings: Settings) -> None:
    engine = ServerEngine(settings)
    await engine.command(f"DROP DATABASE IF EXISTS {DATABASE} SYNC")
    await engine.close()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A client is of one event loop, and each test has its own; the data is that of all tests here."""
    store = ServerStore(settings, keep={1: 1})
    await store.migrate()
    yield store
    await store.close()


class TestServerStore(StoreContract):
    pass
