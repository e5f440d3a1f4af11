"""`paas drains` and its kin as a program, on the real service: from `add` over an outage to `remove`."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import CompletedProcess

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from logsvc.access.static import mint
from tests.client.program import paas
from tests.support.service import Service
from tests.support.wait import until

URL = "https://user:sEcReT@logs.example.com/in?key=sEcReT"


class User:
    """Somebody with a token, who types `paas`."""

    def __init__(self, service: Service, token: str) -> None:
        self._service, self._token = service, token

    async def types(self, *arguments: str) -> CompletedProcess[bytes]:
        words = [*arguments, "-a", self._service.app]
        return await asyncio.to_thread(paas, *words, url=self._service.url, PAAS_TOKEN=self._token)

    async def sees(self, *arguments: str) -> str:
        """What it prints where all is well."""
        done = await self.types(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    entries = [mint(name, "local", scopes, []) for name, scopes in SCOPES.items()]
    (tmp_path / "tokens").write_text("".join(entry for _, entry in entries))
    settings = {
        "auth.tokens_file": tmp_path / "tokens",
        "drains.http": "true",
        "drains.allow": '["127.0.0.0/8"]',
        "drains.connect_timeout": 60,
        "drains.request_timeout": 60,
        "drains.pause_first": 0.1,
        "drains.pause_most": 0.5,
    }
    async with Service(tmp_path, procfile=None, settings=settings) as service:
        await service.start()
        service.tokens = dict(zip(SCOPES, (token for token, _ in entries), strict=True))  # type: ignore[attr-defined] # for the users
        yield service
        assert "sEcReT" not in service.stderr


SCOPES = {"owner": ["logs:read", "logs:write", "drains:write"], "reader": ["logs:read"]}


@pytest.fixture
def owner(service: Service) -> User:
    return User(service, service.tokens["owner"])  # type: ignore[attr-defined] # see above


@pytest.fixture
def reader(service: Service) -> User:
    return User(service, service.tokens["reader"])  # type: ignore[attr-defined] # see above


async def write(service: Service, *lines: str) -> None:
    headers = {"Authorization": f"Bearer {service.tokens['owner']}"}  # type: ignore[attr-defined] # see above
    text = "".join(f"{line}\n" for line in lines)
    async with aiohttp.ClientSession(headers=headers) as client, client.post(service.logs, data=text) as response:
        assert response.status == 200


async def test_a_drain_from_its_beginning_to_its_end(service: Service, owner: User) -> None:
    """It is added, tested, fails, is paused, resumed and removed; and what was written comes in the end."""
    got: list[str] = []
    status = 200

    async def take(request: web.Request) -> web.Response:
        if status == 200:
            got.append((await request.read()).decode())
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/in", take)
    async with TestServer(app, host="127.0.0.1") as receiver:
        url = str(receiver.make_url("/in"))
        done = await owner.types("drains:add", url)
        assert done.returncode == 0
        added = re.fullmatch(
            rf"Successfully added drain {re.escape(url)} \((d\.[0-9a-f-]{{36}})\)\n", done.stdout.decode()
        )
        assert added is not None
        token = added[1]
        assert b"has not written a line yet" in done.stderr

        await write(service, "one", "two")
        await until(lambda: "one" in "".join(got) and "two" in "".join(got), what="the lines")
        assert "200" in await owner.sees("drains:test", token)

        status = 503
        done = await owner.types("drains:test", url)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"503" in done.stderr
        await write(service, "three")

        async def retrying() -> bool:
            return "retrying" in await owner.sees("drains:status")

        await until(retrying, what="the drain to fail")
        said = await owner.sees("drains:status", token)
        assert "503" in said
        assert said.startswith(f"{url} ({token})\n")

        assert (await owner.sees("drains:pause", token)).startswith("Paused drain ")
        assert await owner.sees("drains") == f"{url} ({token})  paused\n"
        assert "\n  paused: " in await owner.sees("drains:status")
        status = 200
        assert (await owner.sees("drains:resume", token)).startswith("Resumed drain ")
        await until(lambda: "three" in "".join(got), what="what was written meanwhile")
        assert await owner.sees("drains:remove", url) == f"Successfully removed drain {url} ({token})\n"
    done = await owner.types("drains")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"demo has no drains" in done.stderr
    assert await owner.sees("drains", "--json") == "[]\n"


async def test_what_is_shown_and_what_is_refused(owner: User, reader: User) -> None:
    await owner.sees(
        "drains:add", URL, "-p", "web", "-p", "worker", "--grep", "a b", "-i", "--stream", "stderr", "--unordered"
    )
    (listed,) = (await owner.sees("drains")).splitlines()
    assert listed.startswith(f"{URL} (d.")
    assert listed.endswith(")  --unordered -p web -p worker --stream stderr --grep 'a b' --ignore-case")
    (shown,) = orjson.loads(await owner.sees("drains", "--json"))
    assert shown["filter"] == {"process": ["web", "worker"], "stream": ["stderr"], "grep": ["a b"], "ignore_case": True}
    assert orjson.loads(await owner.sees("drains:status", "--json"))[0]["status"]["state"] in {"starting", "delivering"}

    for words in (("drains",), ("drains", "--json"), ("drains:status",)):
        seen = await reader.sees(*words)
        assert "sEcReT" not in seen
        assert "https://****@logs.example.com/****" in seen
    for user, words, why in (
        (reader, ("drains:remove", URL), "lacks the scope drains:write"),
        (owner, ("drains:add", URL), "has a drain with this URL already"),
        (owner, ("drains:add", "ftp://host"), "url: the URL must begin with"),
        (owner, ("drains:add", "https://10.0.0.1/"), "may not connect to this address"),
        (owner, ("drains:add", "https://host", "--grep-re", "("), "--grep-re: not a pattern that RE2 takes"),
        (owner, ("drains:remove", "d.none"), "has no such drain"),
    ):
        done = await user.types(*words)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1), words
        assert why.encode() in done.stderr


async def test_drains_outlive_a_kill_of_the_service(service: Service, owner: User) -> None:
    await owner.sees("drains:add", URL)
    before = await owner.sees("drains", "--json")
    service.kill()
    await service.start()
    assert await owner.sees("drains", "--json") == before
