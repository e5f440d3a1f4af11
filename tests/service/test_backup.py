"""The commands of docs/operations.md at work: a backup while the service runs, and all of it in empty servers again."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from logsvc.bus.epochs import Epochs
from logsvc.config import Kafka
from tests.chaos.readers import history
from tests.chaos.writer import Writer, Writing
from tests.support import until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.program import LOGSVC
from tests.support.roles import Platform, Role, Serving

pytestmark = pytest.mark.timeout(300)

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Cluster]:
    """Another Kafka."""
    with cluster(tmp_path / "kafka") as started:
        yield started


def documented(folder: Path) -> list[str]:
    """The commands of the documentation, with files in `folder`: two that make a backup, two that restore it."""
    section = OPERATIONS.read_text().partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^ {4}(.*)$", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["clickhouse-client", "logsvc"] * 2
    return [command.replace("/backups/", f"{folder}/") for command in commands]


async def run(platform: Platform, command: str, *, fails: bool = False) -> str:
    """Run one; what it said. ClickHouse's client is none here: its statement goes over HTTP."""
    statement = re.fullmatch(r'clickhouse-client --query "(\w+ DATABASE) logsvc (.*)"', command)
    if statement is None:
        return await asyncio.to_thread(_shell, platform, command, fails=fails)
    sql = f"{statement[1]} {platform.settings['clickhouse.database']} {statement[2]}"
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=sql) as answer:
        said = await answer.text()
        assert answer.status == 200, said
        return said


def _shell(platform: Platform, command: str, *, fails: bool) -> str:
    program = Role(platform.folder / "admin", (), "", platform.settings)
    done = subprocess.run(
        command.replace("logsvc", LOGSVC, 1), shell=True, capture_output=True, text=True,
        env=program.environment, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == int(fails), f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


async def kept(server: Serving, app: str) -> list[bytes]:
    """Each line of an app with its cursor, as JSON."""
    query = {"since": "1d", "cursor": "1"}
    headers = {"Accept": "application/x-ndjson"}
    async with aiohttp.ClientSession() as client, client.get(server.logs(app), params=query, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.read()).splitlines()


async def drains(server: Serving) -> list[dict[str, object]]:
    url = f"{server.url}/apps/demo/log-drains"
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        found: list[dict[str, object]] = orjson.loads(await answer.read())
        return found


async def stops(role: Role) -> None:
    assert await role.stop() == 0, role.stderr


async def begin(platform: Platform, server: Serving) -> None:
    """A drain, an app that was removed, and a token that is revoked."""
    async with aiohttp.ClientSession() as client:
        drain = {"url": "https://receiver.invalid/in"}
        async with client.post(f"{server.url}/apps/demo/log-drains", json=drain) as answer:
            assert answer.status == 201, await answer.text()
        async with client.post(server.logs("removed"), data="gone\n" * 10) as answer:
            assert answer.status == 200, await answer.text()
    await asyncio.to_thread(platform.run, "purge", "--app", "removed")
    await asyncio.to_thread(platform.run, "revoke", "f3a9")


async def test_what_was_backed_up_is_there_again_in_empty_servers(
    tmp_path: Path, kafka: Cluster, empty: Cluster
) -> None:
    make, copy, bring, give = documented(tmp_path)
    name = {"clickhouse.database": "logsvc_test_backup", "bus.partitions": 3, "kafka.delivery_timeout": 5}
    settings: dict[str, object] = {**name, "kafka.prefix": f"{kafka.settings().prefix}"}
    node = tmp_path / "n"
    async with ClickHouse(tmp_path / "old", backups=tmp_path) as clickhouse:
        platform = Platform(tmp_path, kafka, clickhouse, settings)
        await platform.migrate(2)
        await platform.migrate(3)  # epochs that are over are restored too
        collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
        async with collector, store, server:
            for role in (collector, store, server):
                await role.start()
            await begin(platform, server)
            with Writer(node, Writing(lines=500)) as writer:
                first = (await asyncio.to_thread(writer.wait)).written
            await until(lambda: is_complete(server, first), what="the first lines")
            await stops(store)
            before = await kept(server, "demo")
            known = await drains(server)
            with Writer(node, Writing(writers=("c",), lines=300)) as writer:  # Kafka alone gets these
                written = first | (await asyncio.to_thread(writer.wait)).written
            await until(lambda: is_complete(server, written), what="lines that aren't stored")
            await run(platform, make)
            await run(platform, copy)
    assert len(before) == sum(first.values())

    async with ClickHouse(tmp_path / "new", backups=tmp_path) as clickhouse:
        platform = Platform(tmp_path, empty, clickhouse, settings)
        assert "run `logsvc migrate`" in await run(platform, give, fails=True)
        await run(platform, bring)
        assert "prefix}.3 takes lines" in (await run(platform, give)).replace(str(settings["kafka.prefix"]), "prefix}")
        assert "there is a topic" in await run(platform, give, fails=True)
        shutil.rmtree(node / "collector")
        collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
        async with collector, store, server:
            for role in (server, collector, store):
                await role.start()
            await until(lambda: is_complete(server, written), what="what the files still had")
            after = await kept(server, "demo")
            assert after[: len(before)] == before
            (await history(server.logs("demo"))).tally.check(written)
            assert await drains(server) == known
            async with aiohttp.ClientSession() as client, client.get(server.logs("removed")) as answer:
                assert answer.status == 404
        assert "BAD  sessions" not in await asyncio.to_thread(platform.run, "check")
        bus = Kafka.model_validate(platform.bus.model_dump() | {"prefix": settings["kafka.prefix"]})
        async with Epochs.open(bus) as epochs:
            assert epochs.controls.revoked == {"f3a9"}


async def is_complete(server: Serving, written: dict[str, int]) -> bool:
    return (await history(server.logs("demo"))).tally.complete(written)
