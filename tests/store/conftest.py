"""A database of its own on a ClickHouse server for each module that asks for `settings`.

The server is the engine behind HTTP, started once; or with `LOGSVC_TEST_CLICKHOUSE` a real one.
"""

import asyncio
import secrets
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from yarl import URL

from logsvc.config import ClickHouse as Settings
from logsvc.store.server import ServerEngine
from tests.support.clickhouse import SERVER, ClickHouse


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    if SERVER:
        url = URL(SERVER)
        yield Settings(
            urls=[str(url.with_user(None))], user=url.user or "default", password=SecretStr(url.password or "")
        )
    else:
        with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as clickhouse:
            yield Settings(urls=[clickhouse.url])


@pytest.fixture(scope="module")
def settings(server: Settings) -> Iterator[Settings]:
    settings = server.model_copy(update={"database": f"logsvc_test_{secrets.token_hex(4)}"})
    yield settings
    asyncio.run(drop_database(settings))


async def drop_database(settings: Settings) -> None:
    engine = ServerEngine(settings)
    try:
        await engine.drop_database()
    finally:
        await engine.close()
