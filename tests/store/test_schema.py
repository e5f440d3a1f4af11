"""Migrations: numbered, run once, safe at once and after a crash; an older or newer schema is told in a sentence."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator

import pytest

from logsvc.config import ClickHouse as Settings
from logsvc.errors import StoreError
from logsvc.model import EVERYTHING
from logsvc.store import schema
from logsvc.store.schema import WrongSchema
from logsvc.store.server import ServerEngine, ServerStore
from tests.support.store import END, chunk_of, messages_of, new_app, stream_of

NEWEST = schema.migrations()[-1][0]
ADD_COLUMN = (NEWEST + 1, "-- A note; with a semicolon.\nALTER TABLE apps ADD COLUMN IF NOT EXISTS note String;\n")


@pytest.fixture
async def fresh(server: Settings) -> AsyncIterator[Settings]:
    """Settings of a database that is not there yet."""
    settings = server.model_copy(update={"database": f"logsvc_test_{secrets.token_hex(4)}"})
    yield settings
    engine = ServerEngine(settings)
    await engine.drop_database()
    await engine.close()


@pytest.fixture
async def engine(fresh: Settings) -> AsyncIterator[ServerEngine]:
    """On an empty database."""
    engine = ServerEngine(fresh)
    await engine.create_database()
    yield engine
    await engine.close()


async def test_many_that_migrate_at_once_migrate_once(fresh: Settings):
    stores = [ServerStore(fresh) for _ in range(6)]
    async with asyncio.TaskGroup() as tasks:
        for store in stores:
            tasks.create_task(store.migrate())
    app = new_app()
    await stores[0].insert([chunk_of(stream_of(app), 0, b"hello")])
    await stores[1].migrate()
    for store in stores:
        await store.require()
        assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"hello"]
        await store.close()


async def test_a_store_without_a_schema_says_what_to_run(fresh: Settings, engine: ServerEngine):
    with pytest.raises(WrongSchema, match=f"is not there yet, .* needs version {NEWEST}: run `logsvc migrate`"):
        await ServerStore.open(fresh)
    assert await schema.version(engine) == 0


async def test_a_database_that_is_not_there_says_what_to_run(fresh: Settings):
    with pytest.raises(StoreError, match="no such database"):
        await ServerStore.open(fresh)


async def test_an_older_schema_is_brought_up_to_date_and_the_older_logsvc_stops(fresh: Settings, engine: ServerEngine):
    store = ServerStore(fresh)
    await store.migrate()
    newer = [*schema.migrations(), ADD_COLUMN]
    with pytest.raises(WrongSchema, match=rf"is version {NEWEST}, .* needs version {NEWEST + 1}: run `logsvc migrate`"):
        await schema.require(engine, newer)

    await schema.migrate(engine, newer)
    await schema.migrate(engine, newer)
    await schema.require(engine, newer)

    for stale in (store.migrate, store.require):
        with pytest.raises(WrongSchema, match=rf"is version {NEWEST + 1}, .*: start the newer logsvc"):
            await stale()
    await store.close()


async def test_a_migration_that_broke_off_is_run_again(engine: ServerEngine):
    broken = (1, "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = MergeTree ORDER BY x;\nCREATE TABLE b (nonsense);\n")
    whole = (1, broken[1].replace("(nonsense)", "(x Int8) ENGINE = MergeTree ORDER BY x"))
    with pytest.raises(StoreError):
        await schema.migrate(engine, [broken])
    assert await schema.version(engine) == 0
    await schema.migrate(engine, [whole])
    assert await schema.version(engine) == 1


# ---- the same for a cluster


@pytest.mark.parametrize("migration", [(0, schema.VERSION_TABLE), *schema.migrations(), ADD_COLUMN])
async def test_on_a_cluster_every_statement_is_for_all_servers_and_every_table_replicated(
    engine: ServerEngine, migration: schema.Migration
):
    for statement in schema.statements(schema.replicated(migration[1], "{cluster}'s")):
        (formatted,) = (await engine.ask("SELECT formatQuery({sql:String})", {"sql": statement}))[0]
        text = formatted.decode()
        assert re.match(r"(CREATE|ALTER) ", text), text
        assert "ON CLUSTER `{cluster}'s`" in text
        for table_engine in re.findall(r"ENGINE = `?(\w+)", text):
            assert table_engine == "Null" or re.fullmatch(r"Replicated\w*MergeTree", table_engine)


async def test_the_parser_would_refuse_a_statement_that_is_none(engine: ServerEngine):
    with pytest.raises(StoreError, match="SYNTAX_ERROR"):
        await engine.ask("SELECT formatQuery({sql:String})", {"sql": "CREATE TABLE lines ON CLUSTER c ENGINE ="})


async def test_the_engine_knows_the_cluster_that_it_is_told_and_the_settings(fresh: Settings):
    """There is one server here: the tables are made without the cluster, then used with its settings."""
    plain, clustered = ServerStore(fresh), ServerStore(fresh.model_copy(update={"cluster": "nowhere"}))
    with pytest.raises(StoreError, match="CLUSTER_DOESNT_EXIST"):
        await clustered.migrate()
    await plain.migrate()
    app = new_app()
    await clustered.insert([chunk_of(stream_of(app), 0, b"hello")])
    assert messages_of(await clustered.before(app, END, EVERYTHING, 10)) == [b"hello"]
    await plain.close()
    await clustered.close()
