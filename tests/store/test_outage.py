"""A ClickHouse that is away, slow or killed is StoreAway, never half an answer; it is used again once it is back."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from clickhouse_connect.driver.exceptions import ProgrammingError
from pydantic import SecretStr

from logsvc.config import ClickHouse as Settings
from logsvc.errors import ConfigError, StoreAway, StoreError
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor
from logsvc.store.server import ServerStore, _explain
from logsvc.store.writer import StoreLoop
from tests.chaos.proxy import cutting
from tests.store.test_writer import MemoryReader
from tests.support.clickhouse import ClickHouse
from tests.support.ports import free_port
from tests.support.store import APPENDED, END, chunk_of, messages_of, new_app, stream_of
from tests.support.wait import until

DAY = 86_400_000


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as clickhouse:
        yield clickhouse


@pytest.fixture
async def running(clickhouse: ClickHouse) -> ClickHouse:
    """The server, started again where a test has killed it."""
    if not clickhouse.is_running:
        await clickhouse.start()
    return clickhouse


@pytest.fixture
async def store(running: ClickHouse) -> AsyncIterator[ServerStore]:
    store = ServerStore(Settings(urls=[running.url]))
    await store.migrate()
    yield store
    await store.close()


def numbered(app: AppId, start: int, end: int) -> list[Chunk]:
    """Chunks of 100 lines each, of three days, so that a batch makes several parts."""
    stream = stream_of(app)
    return [
        chunk_of(
            stream,
            offset,
            *[b"%d.%d %b" % (offset, line, b"x" * 100) for line in range(100)],
            appended=APPENDED + DAY * (offset % 3),
        )
        for offset in range(start, end)
    ]


async def count(store: ServerStore, app: AppId) -> int:
    return sum(bucket.lines for bucket in await store.volume(app, END, EVERYTHING, 1_000_000_000))


async def test_nobody_listens_there():
    store = ServerStore(Settings(urls=[f"http://127.0.0.1:{free_port()}"]))
    for call in (store.before(new_app(), END, EVERYTHING, 1), store.insert(numbered(new_app(), 0, 1)), store.migrate()):
        with pytest.raises(StoreAway, match="the store can't be reached"):
            await call
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.watermarks(1)


async def test_the_next_server_is_asked(running: ClickHouse, store: ServerStore):
    app = new_app()
    nobody = f"http://127.0.0.1:{free_port()}"
    both = ServerStore(Settings(urls=[nobody, running.url]))
    await both.insert([chunk_of(stream_of(app), 0, b"hello")])
    assert messages_of(await both.before(app, END, EVERYTHING, 10)) == [b"hello"]
    assert both._server._preferred is both._server._servers[1]
    await both.close()
    assert await store.exists(app)


async def test_a_server_that_does_not_answer_is_given_up_in_time(running: ClickHouse, store: ServerStore):
    hasty = ServerStore(Settings(urls=[running.url], read_timeout=3, write_timeout=3))
    app = new_app()
    chunk = chunk_of(stream_of(app), 0, b"hello")
    await hasty.insert([chunk])

    running.freeze()
    try:
        for call in (hasty.before(app, END, EVERYTHING, 10), hasty.insert([chunk]), hasty.record(1, {0: 1})):
            with pytest.raises(StoreAway, match="did not answer in time"):
                await call
    finally:
        running.thaw()
    assert messages_of(await hasty.before(app, END, EVERYTHING, 10)) == [b"hello"]
    await hasty.close()
    assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"hello"]


async def killed_while_it_writes(running: ClickHouse, store: ServerStore, batch: list[Chunk]) -> bool:
    """Insert, and kill the server while it writes a part; whether that was before it had answered."""
    parts = running.folder / "data" / "store"
    inserting = asyncio.create_task(store.insert(batch))
    await until(lambda: inserting.done() or any(parts.glob("*/*/tmp_insert_*")), what="a part being written")
    running.kill()
    try:
        await inserting
    except StoreAway:
        return True
    return False


async def test_kill_9_in_the_middle_of_an_insert_and_the_batch_again_is_one_batch(
    running: ClickHouse, store: ServerStore
):
    app, done, killed = new_app(), 0, 0
    for seed in range(30):
        batch = numbered(app, done, done + 600)
        killed += await killed_while_it_writes(running, store, batch)
        with pytest.raises(StoreAway):
            await count(store, app)

        await running.start()
        await store.insert(batch[: random.Random(seed).randrange(600)])
        await store.insert(batch)
        done += 600
        assert await count(store, app) == done * 100
        if killed == 3:
            break
    assert killed == 3
    found, after, page_done = [], Cursor(1, 0, 0, -1), False
    while not page_done:
        page = await store.after(app, after, done, EVERYTHING, 20_000)
        found += [message.partition(b" ")[0] for message in messages_of(page)]
        after, page_done = page.chunks[-1].cursor(page.chunks[-1].numbers[-1]), page.done
    assert found == [b"%d.%d" % (offset, line) for offset in range(done) for line in range(100)]


async def test_the_loop_stores_everything_once_it_is_back(running: ClickHouse, store: ServerStore):
    app, reader = new_app(), MemoryReader()
    loop = StoreLoop(reader, store, 1, batch_seconds=0.05)
    running_loop = asyncio.create_task(loop.run())
    reader.append(numbered(app, 0, 50))
    await until(lambda: reader.committed == {0: 50})

    running.kill()
    reader.append(numbered(app, 50, 100))
    await until(lambda: loop.state.failures >= 2 and loop.state.lag(APPENDED / 1000 + 5) >= 5)
    assert loop.state.error == "the store can't be reached"
    assert reader.committed == {0: 50}

    await running.start()
    await until(lambda: reader.committed == {0: 100})
    assert await count(store, app) == 10_000
    await until(lambda: loop.state.error is None)
    running_loop.cancel()
    await asyncio.wait([running_loop])
    assert await store.watermarks(1) == {0: 100}


async def test_a_role_starts_while_it_is_away_and_looks_at_the_schema_when_it_is_back(running: ClickHouse):
    fitting, other = Settings(urls=[running.url]), Settings(urls=[running.url], database="not_there")
    running.kill()
    store, misled = await ServerStore.open(fitting), await ServerStore.open(other)
    app = new_app()
    chunk = chunk_of(stream_of(app), 0, b"hello")
    with pytest.raises(StoreAway):
        await store.insert([chunk])

    await running.start()
    await store.insert([chunk])
    assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"hello"]
    await store.retain(0)
    with pytest.raises(StoreError, match="no such database"):
        await misled.insert([chunk])
    await store.close()
    await misled.close()


@pytest.mark.parametrize("compress", [False, True])
async def test_a_wire_that_breaks_gives_all_of_an_answer_or_none(
    running: ClickHouse, store: ServerStore, compress: bool
):
    app = new_app()
    await store.insert(numbered(app, 0, 20))
    whole = messages_of(await store.before(app, END, EVERYTHING, 2000))
    answers = 0
    async with cutting(lambda: running.port, random.Random(1), 60_000 >> 3 * compress) as proxy:
        cut = ServerStore(Settings(urls=[f"http://127.0.0.1:{proxy.port}"], compress=compress))
        for _ in range(40):
            try:
                assert messages_of(await cut.before(app, END, EVERYTHING, 2000)) == whole
                answers += 1
            except StoreAway:
                pass
        assert proxy.cuts > 10
        proxy.cutting = False
        assert messages_of(await cut.before(app, END, EVERYTHING, 2000)) == whole
        await cut.close()
    assert answers < 40


async def test_a_proxy_that_answers_in_its_place_is_an_outage(aiohttp_server):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = await aiohttp_server(app)
    store = ServerStore(Settings(urls=[f"http://127.0.0.1:{server.port}"]))
    with pytest.raises(StoreAway, match="something in front of the store"):
        await store.apps("tenant")
    await store.close()


async def test_a_wrong_password_is_said_and_never_shown(tmp_path: Path):
    async with ClickHouse(tmp_path, password="right") as clickhouse:
        for password, message in (("wr0ng", "doesn't know this user with this password"), ("right", "")):
            store = ServerStore(Settings(urls=[clickhouse.url], password=SecretStr(password)))
            if message:
                with pytest.raises(StoreError, match=message) as caught:
                    await store.migrate()
                assert not isinstance(caught.value, StoreAway)
                assert "wr0ng" not in str(caught.value)
            else:
                await store.migrate()
            await store.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files of a key and its certificate for 127.0.0.1."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, certificate


async def test_tls_and_whom_it_trusts(tmp_path: Path):
    key, certificate = self_signed(tmp_path)
    async with ClickHouse(tmp_path / "clickhouse", certificate=(certificate, key)) as clickhouse:
        trusting = ServerStore(Settings(urls=[clickhouse.url], ca_file=str(certificate)))
        await trusting.migrate()
        app = new_app()
        await trusting.insert([chunk_of(stream_of(app), 0, b"hello")])
        assert messages_of(await trusting.before(app, END, EVERYTHING, 10)) == [b"hello"]
        await trusting.close()

        wary = ServerStore(Settings(urls=[clickhouse.url]))
        with pytest.raises(StoreAway, match=r"certificate is not one that is trusted here: see clickhouse\.ca_file"):
            await wary.migrate()
        await wary.close()


def test_a_setting_that_the_user_may_not_use_is_named():
    said = _explain(ProgrammingError("Setting async_insert is unknown or readonly"))
    assert not isinstance(said, StoreAway)
    assert str(said) == "the store's client refused: Setting async_insert is unknown or readonly"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"urls": ["localhost:8123"]}, "clickhouse.urls: an address looks like"),
        ({"urls": ["http://user:secret@host:8123"]}, "without a user and password"),
        ({"urls": ["http://host:99999999"]}, "clickhouse.urls"),
        ({"ca_file": "/nonexistent/ca.pem"}, "there is no file /nonexistent/ca.pem"),
    ],
)
async def test_settings_that_cannot_be_used(settings: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        ServerStore(Settings(**settings))
    assert "secret" not in str(caught.value)
