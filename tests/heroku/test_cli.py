"""`heroku logs`, the real program, against the real service: a developer who comes from Heroku types what they know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from logsvc.access.static import mint
from logsvc.store.embedded import EmbeddedStore
from tests.api.served import serving
from tests.support import tcp
from tests.support.heroku import PATIENCE, Heroku, lines_of
from tests.support.service import Service
from tests.support.wait import until

pytestmark = pytest.mark.timeout(900)
"""Seconds, for several runs of a program that starts slowly."""

PROCFILE = "web: echo hello; exec sleep 100000\n"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """With a token, lines of two processes, and those of a process that the platform runs."""
    token, entry = mint("heroku", "local", ["logs:read", "logs:write", "drains:write"], [])
    (tmp_path / "tokens").write_text(entry)
    settings = {"auth.tokens_file": tmp_path / "tokens", "log.format": "json"}
    async with Service(tmp_path, procfile=PROCFILE, settings=settings) as service:
        await service.start()
        service.token = token  # type: ignore[attr-defined]  # what `heroku` below logs in with
        shown = tmp_path / "stdout"
        # In either order: the process may write before it is told that it is up. Its command has a hello in it, too.
        begun = ("| hello\n", "to up\n")
        await until(lambda: all(text in shown.read_text() for text in begun), what="the process has begun")
        await push(service, "worker", 0, 6)
        await push(service, "cron", 6, 12)
        yield service
        assert token not in (tmp_path / "stderr").read_text()
        assert "/v1/log-sessions/gA" not in (tmp_path / "stderr").read_text()


@pytest.fixture
def heroku(service: Service, tmp_path: Path) -> Heroku:
    return Heroku(service.url, service.token, tmp_path / "home")  # type: ignore[attr-defined]  # see above


async def push(service: Service, process: str, begin: int, end: int) -> None:
    text = "".join(f"seq={number}  indented\n" for number in range(begin, end))
    headers = {"Authorization": f"Bearer {service.token}"}  # type: ignore[attr-defined]  # see above
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(service.logs, params={"process": process}, data=text) as response,
    ):
        assert response.status == 200


def sequence(text: str) -> list[int]:
    return [int(line.partition("seq=")[2].split()[0]) for line in text.splitlines() if "seq=" in line]


async def test_it_shows_what_was_written(service: Service, heroku: Heroku) -> None:
    status, out, errors = await heroku.run("logs", "-a", service.app)
    assert status == 0, errors
    assert sequence(out) == list(range(12))
    assert "app[web.1]: hello" in out
    assert " app[worker.1]: seq=0  indented" in out
    assert out.splitlines()[0][26:32] == "+00:00"


async def test_its_filters_are_those_that_heroku_has(service: Service, heroku: Heroku) -> None:
    for arguments, expected in (
        (["-n", "3"], [9, 10, 11]),
        (["-p", "worker"], list(range(6))),
        (["-p", "worker", "-n", "2"], [4, 5]),
        (["-d", "cron.1"], list(range(6, 12))),
        (["-d", "cron"], list(range(6, 12))),
        (["-s", "app"], list(range(12))),
        (["-p", "nothing"], []),
    ):
        status, out, errors = await heroku.run("logs", "-a", service.app, *arguments)
        assert (status, sequence(out)) == (0, expected), (arguments, errors)
    status, out, errors = await heroku.run("logs", "-a", service.app, "-s", "heroku")
    assert status == 0, errors
    assert out.strip()
    assert {line.split("[")[0].split()[1] for line in out.splitlines()} == {"platform"}


async def test_it_follows(service: Service, heroku: Heroku) -> None:
    async with heroku.running("logs", "--tail", "-a", service.app, "-p", "worker", "-n", "1") as process:
        assert sequence("\n".join(await lines_of(process, 1))) == [5]
        for begin in range(12, 30, 3):
            await push(service, "cron", 0, 1)
            await push(service, "worker", begin, begin + 3)
        assert sequence("\n".join(await lines_of(process, 18))) == list(range(12, 30))


async def test_its_drain_commands_work(service: Service, heroku: Heroku) -> None:
    url = "https://user:pw@logs.example.com/in?key=%2F#insecure"
    status, out, errors = await heroku.run("drains:add", url, "-a", service.app)
    assert (status, out.strip()) == (0, f"Successfully added drain {url}"), errors
    status, out, errors = await heroku.run("drains:add", url, "-a", service.app)
    assert status != 0
    assert "has a drain with this URL already" in " ".join(errors.split())
    status, out, errors = await heroku.run("drains", "-a", service.app, "--json")
    assert status == 0, errors
    (drain,) = orjson.loads(out)
    assert (drain["url"], drain["addon"]) == (url, None)
    status, out, errors = await heroku.run("drains", "-a", service.app)
    assert (status, out.splitlines()[-1]) == (0, f"{url} ({drain['token']})"), errors
    status, out, errors = await heroku.run("drains:remove", url, "-a", service.app)
    assert (status, out.strip()) == (0, f"Successfully removed drain {url}"), errors
    status, out, errors = await heroku.run("drains:remove", drain["token"], "-a", service.app)
    assert status != 0
    assert "no such drain" in " ".join(errors.split())
    assert await heroku.run("drains", "-a", service.app) == (0, "", "")


async def test_it_is_told_what_is_wrong(service: Service, heroku: Heroku, tmp_path: Path) -> None:
    status, out, errors = await heroku.run("logs", "-a", "no-such-app")
    assert status != 0
    assert out == ""
    assert "There is no app no-such-app" in " ".join(errors.split())
    stranger = Heroku(service.url, "lsv_guess", tmp_path / "stranger")
    status, out, _ = await stranger.run("logs", "-a", service.app)
    assert status != 0
    assert out == ""


async def test_it_goes_on_with_the_very_next_line_where_a_process_stops(tmp_path: Path) -> None:
    """The service says `retry` when it stops, and the program comes back with Last-Event-ID."""
    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        async with serving(store) as served:
            await served.rig.write(3)
            heroku = Heroku(served.url, "token", tmp_path / "home")
            async with heroku.running("logs", "--tail", "-a", served.name) as process:
                await lines_of(process, 3)
                shown = []
                for _ in range(3):
                    await until(lambda: served.context.tails == 1, PATIENCE, "it has come back")
                    served.context.stopping.set()
                    served.context.tiers.wake()
                    await until(lambda: served.context.tails == 0, what="the tail has ended")
                    await served.rig.write(5)
                    served.context.stopping.clear()
                    shown += await lines_of(process, 5)
            assert [line.rpartition(": ")[2] for line in shown] == [f"m{number}" for number in range(3, 18)]
    finally:
        await store.close()


async def test_it_goes_on_at_the_next_server_though_its_address_is_no_longer_new(tmp_path: Path) -> None:
    """As a rolling update has it; also where no line has come yet."""
    settings = {"sessions.keys": orjson.dumps(["k" * 32]).decode(), "sessions.idle": 10, "tail.heartbeat": 0.5}
    async with Service(tmp_path, settings=settings) as service:
        await service.start()
        service.token = "unasked"  # type: ignore[attr-defined]  # what `push` below says
        await push(service, "worker", 0, 1)
        async with door(service) as url, aiohttp.ClientSession() as client:
            heroku = Heroku(url, "unasked", tmp_path / "home")
            async with (
                heroku.running("logs", "--tail", "-a", service.app, "-p", "quiet") as quiet,
                heroku.running("logs", "--tail", "-a", service.app, "-p", "worker") as busy,
            ):
                assert sequence("\n".join(await lines_of(busy, 1))) == [0]

                async def both_follow() -> bool:
                    async with client.get(f"{url}/metrics") as answer:
                        return 'logsvc_tails{representation="heroku"} 2.0' in await answer.text()

                await until(both_follow, PATIENCE)
                async with client.post(f"{url}/apps/{service.app}/log-sessions") as answer:
                    younger = (await answer.json())["logplex_url"]

                async def refused() -> bool:
                    async with client.get(younger) as answer:
                        return answer.status == 403

                await until(refused, what="nobody begins with a younger address; there were heartbeats meanwhile")
                assert await service.stop() == 0
                await service.start()
                await push(service, "worker", 1, 4)
                await push(service, "quiet", 4, 6)
                assert sequence("\n".join(await lines_of(busy, 3))) == [1, 2, 3]
                assert sequence("\n".join(await lines_of(quiet, 2))) == [4, 5]


@asynccontextmanager
async def door(service: Service) -> AsyncIterator[str]:
    """Where clients come in, whichever server is behind it; who comes between two of them waits."""

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until(lambda: tcp.listens(service.port), what="a server")
        answers, requests = await asyncio.open_connection("127.0.0.1", service.port)
        asking = asyncio.create_task(tcp.forward(reader, requests))
        asking.add_done_callback(lambda _: requests.close())
        try:
            await tcp.forward(answers, writer)
        finally:
            asking.cancel()

    async with tcp.listening(enter) as port:
        yield f"http://127.0.0.1:{port}"


async def test_nobody_reads_its_pipe_any_more(service: Service, heroku: Heroku) -> None:
    async with heroku.running("logs", "--tail", "-a", service.app) as process:
        await lines_of(process, 1)
        assert process.stdout is not None
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # as `| head -1` does
        await push(service, "worker", 0, 5)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
