"""`logsvc check` says of ClickHouse what is not as it must be, and what to do."""

import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from logsvc.config import ClickHouse as Settings
from logsvc.findings import Finding
from logsvc.store import checks, schema
from logsvc.store.checks import check
from logsvc.store.server import ServerEngine, ServerStore
from tests.support.clickhouse import SERVER, ClickHouse
from tests.support.ports import free_port

NEWEST = schema.migrations()[-1][0]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name.removeprefix("clickhouse."): finding for finding in findings}


def bad(findings: list[Finding]) -> list[str]:
    return [name for name, finding in by_name(findings).items() if not finding.ok]


@pytest.fixture
async def migrated(settings: Settings) -> Settings:
    store = ServerStore(settings)
    await store.migrate()
    await store.close()
    return settings


async def test_all_is_well(migrated: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "FREE", 0.0)  # the disk of the machine that tests is its own affair
    found = by_name(await check(migrated))
    assert [finding for finding in found.values() if not finding.ok or finding.todo] == []
    assert found["schema"].found == f"version {NEWEST}"
    assert found["database"].found == migrated.database
    assert found.keys() == {"reachable", "version", "clock", "disk", "database", "schema"} | {
        f"right {right}" for right in checks.RIGHTS
    }


async def test_nobody_there_is_one_finding():
    found = await check(Settings(urls=[f"http://127.0.0.1:{free_port()}"], connect_timeout=1))
    assert bad(found) == ["reachable"]
    assert len(found) == 1
    assert found[0].found == "the store can't be reached"
    assert "clickhouse.urls" in found[0].todo


async def test_each_of_several_servers_is_looked_at(migrated: Settings):
    nobody = f"http://127.0.0.1:{free_port()}"
    found = await check(migrated.model_copy(update={"urls": [nobody, *migrated.urls]}))
    names = {finding.name: finding.ok for finding in found}
    assert names[f"clickhouse.reachable ({nobody})"] is False
    assert names[f"clickhouse.schema ({migrated.urls[0]})"] is True


async def test_a_wrong_password(tmp_path: Path):
    async with ClickHouse(tmp_path, password="right") as clickhouse:
        found = await check(Settings(urls=[clickhouse.url], password=SecretStr("wr0ng")))
    assert bad(found) == ["reachable"]
    assert "clickhouse.password" in found[0].todo
    assert "wr0ng" not in repr(found)


async def test_a_setting_that_cannot_be_used():
    (found,) = await check(Settings(ca_file="/nonexistent.pem"))
    assert not found.ok
    assert "/nonexistent.pem" in found.found


async def test_no_database_no_schema_and_another_schema_say_what_to_run(server: Settings):
    settings = server.model_copy(update={"database": f"logsvc_test_{secrets.token_hex(4)}"})
    engine = ServerEngine(settings)
    missing = by_name(await check(settings))["database"]
    assert (missing.ok, missing.todo) == (False, "Run `logsvc migrate`.")

    await engine.create_database()
    empty = by_name(await check(settings))["schema"]
    assert (empty.ok, empty.found, empty.wanted) == (False, "version 0", f"version {NEWEST}")
    assert "run `logsvc migrate`" in empty.todo

    await schema.migrate(engine, [*schema.migrations(), (NEWEST + 1, "")])
    newer = by_name(await check(settings))["schema"]
    assert (newer.ok, newer.found) == (False, f"version {NEWEST + 1}")
    assert "start the newer logsvc" in newer.todo
    await engine.drop_database()
    await engine.close()


async def test_limits_are_looked_at(migrated: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "FREE", 1.1)
    monkeypatch.setattr(checks, "OLDEST", (99, 1))
    now = checks.time.time
    monkeypatch.setattr(checks.time, "time", lambda: now() - 60)
    found = by_name(await check(migrated))
    assert [name for name, finding in found.items() if not finding.ok] == ["version", "clock", "disk"]
    assert all(finding.todo for finding in found.values() if not finding.ok)
    assert 59 <= float(found["clock"].found.removesuffix(" s off")) <= 61
    assert found["version"].wanted == "99.1 or newer"


async def test_a_cluster_that_the_server_does_not_know(migrated: Settings):
    found = by_name(await check(migrated.model_copy(update={"cluster": "nowhere"})))["cluster"]
    assert (found.ok, found.found) == (False, "the server knows no such cluster")
    assert "nowhere" in found.todo


@pytest.mark.skipif(not SERVER, reason="NOT RUN: rights need a server with users; name one in LOGSVC_TEST_CLICKHOUSE")
async def test_rights_that_are_missing_are_named(migrated: Settings):
    engine, name = ServerEngine(migrated), f"logsvc_test_{secrets.token_hex(4)}"
    await engine.command(f"CREATE USER {name} IDENTIFIED BY 'secret'")
    try:
        await engine.command(f"GRANT SELECT ON {migrated.database}.* TO {name}")
        found = await check(migrated.model_copy(update={"user": name, "password": SecretStr("secret")}))
        missing = {right for right in checks.RIGHTS if right != "SELECT"}
        assert set(bad(found)) >= {f"right {right}" for right in missing}
        assert f"GRANT INSERT ON {migrated.database}.* TO {name}" in {finding.todo for finding in found}
    finally:
        await engine.command(f"DROP USER {name}")
        await engine.close()
