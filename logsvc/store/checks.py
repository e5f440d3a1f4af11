"""What `logsvc check` says of the store on ClickHouse servers."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from logsvc.config import ClickHouse
from logsvc.errors import ConfigError, StoreAway, StoreError
from logsvc.findings import Finding
from logsvc.store import schema
from logsvc.store.server import ServerEngine

OLDEST: Final = (25, 8)
"""Version of ClickHouse. Tests run on 26.9."""

FREE: Final = 0.1
"""Share of each disk that must be free: merges need room."""

CLOCK: Final = 5.0
"""Seconds between the server's clock and ours: days are dropped by ours, and filled by the bus's."""

RIGHTS: Final = ("SELECT", "INSERT", "ALTER DELETE", "CREATE TABLE", "CREATE VIEW")
"""On the database's tables. `logsvc migrate` alone needs the last two, and ALTER where it has something to change."""


async def check(settings: ClickHouse) -> list[Finding]:
    """Look at everything that the store needs. Of what can't be reached no more is said than that. Never raises."""
    try:
        engines = [ServerEngine(settings.model_copy(update={"urls": [url]})) for url in settings.urls]
    except ConfigError as error:
        return [Finding("clickhouse.settings", ok=False, found=str(error), todo="Correct the setting.")]
    findings = []
    try:
        for url, engine in zip(settings.urls, engines, strict=True):
            name = "" if len(engines) == 1 else f" ({url})"
            findings += [finding._replace(name=finding.name + name) async for finding in _of_server(engine, settings)]
    finally:
        for engine in engines:
            await engine.close()
    return findings


async def _of_server(engine: ServerEngine, settings: ClickHouse) -> AsyncIterator[Finding]:
    reachable = await _reachable(engine)
    yield reachable
    if not reachable.ok:
        return
    for look in (_version, _clock, _disk, _cluster, _database):
        finding = await _safely(look, engine, settings)
        if finding is not None:
            yield finding
    if finding is not None and finding.ok:
        yield await _safely(_schema, engine, settings) or finding
        for right in RIGHTS:
            yield await _right(engine, settings, right)


Look = Callable[[ServerEngine, ClickHouse], Awaitable[Finding | None]]


async def _safely(look: Look, engine: ServerEngine, settings: ClickHouse) -> Finding | None:
    """What a look finds; that it can't be looked at is a finding as well."""
    try:
        return await look(engine, settings)
    except StoreError as error:
        name = f"clickhouse.{look.__name__.strip('_')}"
        return Finding(name, ok=False, found=f"can't be looked at: {error}", todo="Grant SELECT on system tables.")


async def _reachable(engine: ServerEngine) -> Finding:
    name = "clickhouse.reachable"
    try:
        await engine.ask("SELECT 1")
    except StoreAway as error:
        todo = "Start it, or correct clickhouse.urls; look at what is between here and there."
        return Finding(name, ok=False, found=str(error), wanted="it answers", todo=todo)
    except StoreError as error:
        todo = "Correct clickhouse.user and clickhouse.password, or the user's settings profile."
        return Finding(name, ok=False, found=str(error), wanted="it answers", todo=todo)
    return Finding(name, ok=True, found="it answers", wanted="it answers")


async def _version(engine: ServerEngine, _: ClickHouse) -> Finding:
    version = (await _one(engine, "SELECT version()")).decode()
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    wanted = f"{OLDEST[0]}.{OLDEST[1]} or newer"
    return Finding("clickhouse.version", numbers >= OLDEST, version, wanted, "" if numbers >= OLDEST else "Upgrade it.")


async def _clock(engine: ServerEngine, _: ClickHouse) -> Finding:
    sent = time.time()
    there = await _one(engine, "SELECT toUnixTimestamp64Nano(now64(9))") / 1e9
    # It was read somewhere between: what the way took says nothing of the clock.
    off = max(0.0, sent - there, there - time.time())
    found = "the same" if off == 0 else f"{off:.1f} s off"
    todo = "" if off <= CLOCK else "Have both machines' clocks set by NTP."
    return Finding("clickhouse.clock", off <= CLOCK, found, f"within {CLOCK:g} s", todo)


async def _disk(engine: ServerEngine, _: ClickHouse) -> Finding:
    columns = await engine.ask("SELECT name, free_space / total_space, free_space FROM system.disks ORDER BY 2 LIMIT 1")
    name, share, free = (column[0] for column in columns)
    found = f"{share:.0%} ({free / 1e9:.1f} GB) of disk {name.decode()}"
    todo = "" if share >= FREE else "Make room, or keep lines for fewer days (store.retention_days)."
    return Finding("clickhouse.disk", share >= FREE, found, f"{FREE:.0%} free", todo)


async def _cluster(engine: ServerEngine, settings: ClickHouse) -> Finding | None:
    if not settings.cluster:
        return None
    sql = "SELECT count(), uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}"
    replicas, shards = (column[0] for column in await engine.ask(sql, {"cluster": settings.cluster}))
    ok = shards == 1 and replicas > 1
    found = f"{replicas} servers in {shards} shards" if replicas else "the server knows no such cluster"
    todo = "" if ok else f"Define the cluster {settings.cluster} in remote_servers, on every server."
    return Finding("clickhouse.cluster", ok, found, "one shard of two servers or more", todo)


async def _database(engine: ServerEngine, settings: ClickHouse) -> Finding:
    sql = "SELECT count() FROM system.databases WHERE name = {name:String}"
    there = bool((await engine.ask(sql, {"name": settings.database}))[0][0])
    found = settings.database if there else f"there is no {settings.database}"
    return Finding("clickhouse.database", there, found, settings.database, "" if there else "Run `logsvc migrate`.")


async def _schema(engine: ServerEngine, _: ClickHouse) -> Finding:
    wanted = schema.migrations()
    newest = wanted[-1][0]
    try:
        await schema.require(engine, wanted)
    except schema.WrongSchema as error:
        found = f"version {await schema.version(engine)}"
        return Finding("clickhouse.schema", ok=False, found=found, wanted=f"version {newest}", todo=f"{error}.")
    return Finding("clickhouse.schema", ok=True, found=f"version {newest}", wanted=f"version {newest}")


async def _right(engine: ServerEngine, settings: ClickHouse, right: str) -> Finding:
    name, where = f"clickhouse.right {right}", f"{settings.database}.*"
    try:
        granted = await engine.answer(f"CHECK GRANT {right} ON {where}") == 1
    except StoreError as error:
        return Finding(name, ok=False, found=f"can't be looked at: {error}", wanted="granted")
    todo = "" if granted else f"GRANT {right} ON {where} TO {settings.user}"
    return Finding(name, granted, "granted" if granted else "not granted", "granted", todo)


async def _one(engine: ServerEngine, sql: str) -> Any:
    return (await engine.ask(sql))[0][0]
