"""`logsvc purge` and `DELETE …/logs` with real servers: what was removed comes back nowhere, whatever had it still."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.support import until
from tests.support.program import LOGSVC
from tests.support.roles import Platform
from tests.support.service import Service
from tests.support.wait import DEADLINE

pytestmark = pytest.mark.timeout(300)

SECRET = "the-secret-word"


async def post(url: str, text: str, count: int = 10) -> None:
    async with aiohttp.ClientSession() as client, client.post(url, data=f"{text}\n" * count) as answer:
        assert answer.status == 200, await answer.text()


async def lines(url: str, query: str = "since=5000w") -> list[str]:
    """The lines that there are; none where the app isn't there."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}?{query}") as answer:
        assert answer.status in {200, 404}, await answer.text()
        return (await answer.text()).splitlines() if answer.status == 200 else []


async def remove(url: str) -> None:
    async with aiohttp.ClientSession() as client, client.delete(url) as answer:
        assert answer.status == 202, await answer.text()


def bytes_in(folder: Path) -> bool:
    """Whether the secret stands in any file of a folder as it was written."""
    return any(SECRET.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_running_service_removes_an_app_from_journal_store_and_tails(tmp_path: Path) -> None:
    settings = {"bus.hold_back": 0, "bus.sync_interval": 0.1}
    async with Service(tmp_path, procfile=None, settings=settings) as service:
        await service.start()
        neighbour = f"{service.url}/v1/apps/neighbour/logs"
        await post(neighbour, "mine")
        await post(service.logs, SECRET)
        assert len(await lines(service.logs)) == 10
        assert bytes_in(service.data / "bus")
        await remove(service.logs)
        assert await lines(service.logs) == []
        await post(service.logs, "newer", 3)
        service.kill()  # whatever had not come so far goes on at the next start
        await service.start()
        assert len(await lines(service.logs)) == 3
        await until(lambda: gone(service, neighbour), what="the journal's file is deleted")
        assert len(await lines(neighbour)) >= 10
        assert len(await lines(service.logs)) == 3


async def gone(service: Service, neighbour: str) -> bool:
    await post(neighbour, "more", 1)  # files go when something is written
    return not bytes_in(service.data / "bus")


async def test_a_service_that_does_not_run_too(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile=None) as service:
        await service.start()
        await post(service.logs, SECRET)
        command = [LOGSVC, "purge", "--app", service.app, "--data", str(service.data)]
        status, said = await run(command)
        assert status == 1
        assert "in use by process" in said
        await add_drain(service.url, service.app)
        await add_drain(service.url, "neighbour")
        await service.stop()
        status, said = await run(command)
        assert status == 0, said
        assert "its log begins at" in said
        assert f'logsvc.audit: purge subject="logsvc purge" tenant="local" app="{service.app}"' in said
        await service.start()
        assert await drains(service.url, service.app) == 1
        await service.stop()
        status, said = await run([*command, "--drains"])
        assert status == 0, said
        assert "drains: 1 are removed" in said
        await service.start()
        assert await drains(service.url, service.app) == 0
        assert await drains(service.url, "neighbour") == 1
        assert await lines(service.logs) == []
        await post(service.logs, "newer", 3)
        assert len(await lines(service.logs)) == 3
    assert (await run([LOGSVC, "purge", "--app", "../x"]))[0] == 2


async def add_drain(url: str, app: str) -> None:
    address = f"{url}/apps/{app}/log-drains"
    async with (
        aiohttp.ClientSession() as client,
        client.post(address, json={"url": "https://example.com/in"}) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def drains(url: str, app: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/apps/{app}/log-drains") as answer:
        return len(await answer.json())


async def run(command: list[str]) -> tuple[int | None, str]:
    """Status of a program, and what it said."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


async def rows(platform: Platform, app: str) -> int:
    query = f"SELECT count() FROM {platform.settings['clickhouse.database']}.lines WHERE app = '{app}'"
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=query) as answer:
        return int(await answer.text())


async def test_what_is_only_on_kafka_does_not_come_back_into_the_store(platform: Platform) -> None:
    await platform.migrate(3)
    one, other, store = platform.serve("1"), platform.serve("2"), platform.store("1")
    async with one, other, store:
        for server in (one, other):
            await server.start()
        await store.start()
        await post(one.logs("demo"), SECRET)
        await post(one.logs("neighbour"), "mine")
        await until(lambda: stored(platform, "demo", 10), what="it is stored")
        assert await store.stop() == 0
        await post(one.logs("demo"), SECRET)
        await post(one.logs("neighbour"), "mine")
        assert len(await lines(other.logs("demo"))) == 20
        said = await asyncio.to_thread(platform.run, "purge", "--app", "demo", "--wait", "1")
        assert "stored now is deleted by logsvc store later" in said
        assert "kafka.retention_hours" in said
        assert await rows(platform, "demo") == 0
        for server in (one, other):
            await until(lambda server=server: empty(server.logs("demo")), what="the server has heard of it")
        await post(one.logs("demo"), "newer", 3)
        await store.start()
        await until(lambda: stored(platform, "demo", 3), what="what came later is stored")
        await until(lambda: stored(platform, "neighbour", 20), what="and so is what others wrote")
        for server in (one, other):
            assert ["newer" in line for line in await lines(server.logs("demo"))] == [True] * 3
        for app in ("demo", "neighbour"):
            await add_drain(one.url, app)
        again = await asyncio.to_thread(platform.run, "purge", "--app", "demo", "--drains")
        assert "later" not in again
        assert "drains: 1 are removed" in again
        await until(lambda: without_drains(other.url, "demo"), what="the server has heard of it")
        assert await drains(other.url, "neighbour") == 1
        assert await rows(platform, "demo") == 0
        assert await rows(platform, "neighbour") == 20


async def without_drains(url: str, app: str) -> bool:
    return await drains(url, app) == 0


async def stored(platform: Platform, app: str, count: int) -> bool:
    return await rows(platform, app) == count


async def empty(url: str) -> bool:
    return await lines(url) == []


async def test_a_server_that_is_asked_has_the_store_delete_the_rows(platform: Platform) -> None:
    await platform.migrate(3)
    one, store = platform.serve("1"), platform.store("1")
    async with one, store:
        await one.start()
        await store.start()
        await post(one.logs("demo"), SECRET)
        await until(lambda: stored(platform, "demo", 10), what="it is stored")
        await remove(one.logs("demo"))
        assert await lines(one.logs("demo")) == []
        await until(lambda: stored(platform, "demo", 0), what="the rows are gone")


async def test_a_token_is_revoked_at_every_server_within_seconds(platform: Platform) -> None:
    await platform.migrate(3)
    status, token, entry = await minted()
    assert status == 0
    (platform.folder / "tokens").write_text(entry)
    platform.settings["auth.tokens_file"] = str(platform.folder / "tokens")
    headers = {"Authorization": f"Bearer {token}"}
    one, other = platform.serve("1"), platform.serve("2")
    async with one, other, aiohttp.ClientSession(headers=headers) as client:
        for server in (one, other):
            await server.start()
        async with client.post(one.logs("demo"), data="line\n") as answer:
            assert answer.status == 200
        tails = [await client.get(f"{server.logs('demo')}?tail=1") for server in (one, other)]
        for tail in tails:
            assert b"line" in await tail.content.readline()
        said = await asyncio.to_thread(platform.run, "revoke", "ci")
        assert "ci is revoked" in said
        async with asyncio.timeout(DEADLINE):
            for tail in tails:
                await tail.read()
        for server in (one, other):
            async with client.get(server.logs("demo")) as answer:
                assert answer.status == 401
        await asyncio.to_thread(platform.run, "revoke", "ci", "--undo")
        await until(lambda: served(client, other.logs("demo")), what="it is good again")
        assert await one.stop() == 0
        await asyncio.to_thread(platform.run, "revoke", "ci")
        await one.start()
        async with client.get(one.logs("demo")) as answer:
            assert answer.status == 401, "who starts later knows as well"


async def served(client: aiohttp.ClientSession, url: str) -> bool:
    async with client.get(url) as answer:
        return answer.status == 200


async def minted() -> tuple[int | None, str, str]:
    """Status, a token called ci, and its entry for the file of tokens."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(LOGSVC, "token", "--name", "ci", stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, err.decode().split()[-1], out.decode()
