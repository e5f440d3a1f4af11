"""A second lock on the door: reads on a server go through views that take the tenant, with rights on nothing else."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pytest
from pydantic import SecretStr

from logsvc.config import ClickHouse as Settings
from logsvc.errors import StoreError
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor, Stream
from logsvc.store.clickhouse import ClickHouseStore
from logsvc.store.schema import statements
from logsvc.store.server import ServerEngine, ServerStore
from tests.support.clickhouse import SERVER

APP, OTHER = AppId("acme", "shop"), AppId("other", "shop")
VALUE = b"2026-11-23T02:00:00.000000000Z stdout F secret\n"


class Recorder:
    """An engine that has no rows, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def query(
        self, sql: str, parameters: Mapping[str, object], count: Callable[[int], None] | None = None
    ) -> Sequence[Sequence[Any]]:
        assert count is None
        assert parameters
        self.asked.append(sql)
        return []

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        raise NotImplementedError

    async def command(self, sql: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass


async def read_all(store: ClickHouseStore, app: AppId) -> None:
    place = Cursor(1, 0, 0, -1)
    await store.after(app, place, 10, EVERYTHING, 5)
    await store.before(app, place, EVERYTHING, 1000)
    await store.first(app, 1)
    await store.volume(app, place, EVERYTHING, 1)
    await store.apps(app.tenant)
    await store.exists(app)
    await store.origins("push", ["acme/shop/key"])


async def test_every_read_of_the_api_goes_through_a_view() -> None:
    engine = Recorder()
    await read_all(ClickHouseStore(engine, views=True), APP)
    tables = ("FROM lines", "FROM apps ", "FROM apps\n", "FROM origins ", "FROM origins\n", "FROM chunks")
    assert len(engine.asked) >= 7
    assert [sql for sql in engine.asked if any(table in sql for table in tables)] == []


@pytest.mark.parametrize("view", ["logs_of", "logs_once_of"])
async def test_a_view_shows_one_app_and_nothing_without_its_name(settings: Settings, view: str) -> None:
    store = ServerStore(settings)
    engine = ServerEngine(settings)
    try:
        await store.migrate()
        for number, app in enumerate((APP, OTHER)):
            await store.insert(
                [Chunk(1, number, 0, 1_795_399_200_000, Stream(*app, "web", "web.1", "app", "i"), VALUE)]
            )
        for app, partition in ((APP, 0), (OTHER, 1)):
            shown = await engine.query(
                f"SELECT DISTINCT partition FROM {view}(tenant = {{tenant:String}}, app = {{app:String}})",
                app._asdict(),
            )
            assert [list(column) for column in shown] == [[partition]]
        assert not await engine.query(
            f"SELECT line FROM {view}(tenant = {{tenant:String}}, app = {{app:String}})", {"tenant": "acme", "app": ""}
        )
        for text in (f"SELECT line FROM {view}", f"SELECT line FROM {view}(app = 'shop')"):
            with pytest.raises(StoreError):
                await engine.query(text, {})
    finally:
        await engine.close()
        await store.close()


@pytest.mark.skipif(not SERVER, reason="NOT RUN: rights need a real server, named by LOGSVC_TEST_CLICKHOUSE")
async def test_the_user_of_the_api_has_rights_on_the_views_alone(settings: Settings) -> None:
    admin = ServerEngine(settings)
    store = ServerStore(settings)
    user, password = f"serve_{secrets.token_hex(4)}", secrets.token_hex(16)
    role = f"serving_{secrets.token_hex(4)}"
    try:
        await store.migrate()
        text = (files("logsvc.store") / "serving.sql").read_text()
        for statement in statements(text.replace("logsvc.", f"{settings.database}.").replace("logsvc_serving", role)):
            await admin.command(statement)
        await admin.command(f"CREATE USER {user} IDENTIFIED BY '{password}' DEFAULT ROLE {role}")
        limited = settings.model_copy(update={"user": user, "password": SecretStr(password)})
        serving, engine = ServerStore(limited), ServerEngine(limited)
        try:
            await serving.require()
            await read_all(serving, APP)
            await serving.watermarks(1)
            for table in ("lines", "chunks", "apps", "origins"):
                with pytest.raises(StoreError):
                    await engine.query(f"SELECT * FROM {table} LIMIT 1", {})
            with pytest.raises(StoreError):
                await serving.record(1, {0: 1})
        finally:
            await engine.close()
            await serving.close()
    finally:
        await admin.command(f"DROP USER IF EXISTS {user}")
        await admin.command(f"DROP ROLE IF EXISTS {role}")
        await admin.close()
        await store.close()
