"""Log sessions: Heroku's API, addresses that need no token, and what ends them."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from logsvc.access.sessions import Sessions
from logsvc.store.protocol import Store
from tests.api.served import NDJSON, SSE, Events, Lines, Served, problem_of
from tests.api.test_tokens import LIFE, Guarded, guarded, replace
from tests.support.eventstream import Event
from tests.support.wait import DEADLINE, until


async def opened(served: Served, headers: dict[str, str] | None = None, **asked: Any) -> str:
    """The address of a new session."""
    url = f"{served.url}/apps/{served.name}/log-sessions"
    async with served.client.post(url, json=asked, headers=headers) as response:
        assert response.status == 201, await response.text()
        document = orjson.loads(await response.read())
    assert set(document) == {"id", "logplex_url", "created_at", "updated_at"}
    assert document["logplex_url"].startswith(f"{served.url}/v1/log-sessions/")
    address: str = document["logplex_url"]
    return address


async def text_of(served: Served, address: str, **headers: str) -> str:
    async with served.client.get(address, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.text()


async def test_the_answer_about_an_app_is_what_clients_of_heroku_ask_for(served: Served) -> None:
    await served.rig.write(1)
    async with served.client.get(f"{served.url}/apps/{served.name}") as response:
        document = orjson.loads(await response.read())
    assert document["name"] == served.name
    assert document["generation"]["name"] == "cedar"
    assert document["id"]


async def test_lines_come_as_plain_text_or_as_events_of_one_line_each(served: Served) -> None:
    await served.rig.write(2)
    await served.rig.write(2, process="worker")
    address = await opened(served, lines=3)
    expected = [line.text().decode() for line in served.rig.lines[1:]]
    assert (await text_of(served, address)).splitlines() == expected
    async with served.client.get(address, headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        events = Events(response)
        got = [await events.next() for _ in range(3)]
        assert await events.next() is None
    cursors = [str(line.cursor) for line in served.rig.lines[1:]]
    assert got == [Event("message", text, cursor) for text, cursor in zip(expected, cursors, strict=True)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["m0", "m1", "m2", "m3"]),
        ({"dyno": "web"}, ["m0", "m1"]),
        ({"dyno": "worker.1"}, ["m2", "m3"]),
        ({"type": "worker"}, ["m2", "m3"]),
        ({"dyno": "web", "lines": 1}, ["m1"]),
        ({"lines": 0}, []),
        ({"dyno": None, "lines": None, "source": None, "tail": None, "type": None}, ["m0", "m1", "m2", "m3"]),
        ({"source": "app"}, ["m0", "m1", "m2", "m3"]),
        ({"source": "heroku"}, []),
        ({"dyno": "web", "source": "platform"}, []),
        ({"unknown": 1}, ["m0", "m1", "m2", "m3"]),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
async def test_its_parameters_mean_what_they_mean_at_heroku(
    served: Served, asked: dict[str, Any], expected: list[str], stored: bool
) -> None:
    await served.rig.write(2)
    await served.rig.write(2, process="worker")
    if stored:
        await served.rig.store_upto(2)
    text = await text_of(served, await opened(served, **asked))
    assert [line.rpartition(": ")[2] for line in text.splitlines()] == expected


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"[]", None),
        (b"{", None),
        (b'"x"', None),
        (b"{" + b" " * 20_000 + b"}", None),
        (b'{"lines":-1}', "lines"),
        (b'{"lines":"7"}', "lines"),
        (b'{"lines":true}', "lines"),
        (b'{"lines":1e30}', "lines"),
        (b'{"tail":1}', "tail"),
        (b'{"dyno":"web\\r\\nX: y"}', "dyno"),
        (b'{"dyno":["web"]}', "dyno"),
        (b'{"source":"a b"}', "source"),
        (b'{"type":7}', "type"),
    ],
)
async def test_what_cannot_be_asked_is_refused_in_both_languages(
    served: Served, body: bytes, parameter: str | None
) -> None:
    await served.rig.write(1)
    url = f"{served.url}/apps/{served.name}/log-sessions"
    async with served.client.post(url, data=body) as response:
        assert response.status in {400, 413}
        document = await problem_of(response)
    assert document["message"] == document["detail"]
    assert document["id"] == "bad_request"
    assert document.get("parameter") == parameter


async def test_a_session_follows_and_resumes_with_the_very_next_line(served: Served) -> None:
    await served.rig.write(3)
    address = await opened(served, tail=True, lines=2)
    async with served.client.get(address, headers=SSE) as response:
        events = Events(response)
        assert [event.data[-2:] for event in [await events.next(), await events.next()] if event] == ["m1", "m2"]
        await served.rig.write(1)
        last = await events.next()
        assert last is not None
    await served.rig.write(2)
    async with served.client.get(address, headers={**SSE, "Last-Event-ID": str(last.id)}) as response:
        events = Events(response)
        assert [event.data[-2:] for event in [await events.next(), await events.next()] if event] == ["m4", "m5"]
    async with served.client.get(address, params={"after": str(last.id)}) as response:
        assert [(await Lines(response).next())[-2:] for _ in range(2)] == [b"m4", b"m5"]


async def test_pages_may_have_json_and_a_websocket_too(served: Served) -> None:
    await served.rig.write(2)
    address = await opened(served, tail=True)
    fields = [line.fields() for line in served.rig.lines]
    async with served.client.get(f"{address}?format=json", headers=SSE) as response:
        assert await Events(response).lines(2) == fields
    async with served.client.get(address, headers=NDJSON) as response:
        assert [await Lines(response).object() for _ in range(2)] == fields
    async with served.client.ws_connect(address) as socket:
        assert (await socket.receive_json(timeout=DEADLINE))["lines"] == fields
    for query in ("format=xml", "num=5", "after=x", "process=web"):
        async with served.client.get(f"{address}?{query}") as response:
            assert response.status == 400


async def test_an_address_can_be_neither_made_nor_changed(served: Served) -> None:
    await served.rig.write(1)
    address = await opened(served)
    given = address.rpartition("/")[2]
    other = Sessions().sign(served.context.access.sessions.read(given))
    for forged in (other, given[:-2], given[1:], f"x{given[1:]}", f"{given}.x", "x", "%00"):
        async with served.client.get(f"{served.url}/v1/log-sessions/{forged}") as response:
            assert response.status == 403
            await problem_of(response)


async def test_who_comes_back_is_let_in_where_who_begins_is_too_late(served: Served) -> None:
    await served.rig.write(3)
    served.context.access.sessions = Sessions(idle=1e-6)
    address = await opened(served, tail=True)
    place = str(served.rig.lines[0].cursor)
    async with served.client.get(address) as response:
        assert response.status == 403
    async with served.client.get(address, headers={"Last-Event-ID": place}) as response:
        assert [(await Lines(response).next())[-2:] for _ in range(2)] == [b"m1", b"m2"]
    async with served.client.ws_connect(f"{address}?after={place}") as socket:
        assert [line["message"] for line in (await socket.receive_json(timeout=DEADLINE))["lines"]] == ["m1", "m2"]
    async with served.client.get(address, headers={"Last-Event-ID": "here"}) as response:
        assert response.status == 400


async def test_it_ends_after_its_time(served: Served) -> None:
    await served.rig.write(1)
    served.context.access.sessions = Sessions(idle=300, most=LIFE)
    address = await opened(served, tail=True)
    async with served.client.get(address) as response:
        assert await Lines(response).next()
        assert await Lines(response).next() == b""
    async with served.client.get(address) as response:
        assert response.status == 403


@pytest.fixture
async def site(store: Store, tmp_path: Path) -> Any:
    async with guarded(store, tmp_path) as site:
        await site.served.rig.write(2)
        yield site


async def test_opening_takes_a_token_and_following_none(site: Guarded) -> None:
    url = f"{site.served.url}/apps/{site.served.name}"
    for method, path in (("GET", ""), ("POST", "/log-sessions")):
        async with site.served.client.request(method, url + path) as response:
            assert response.status == 401
            assert (await problem_of(response))["id"] == "unauthorized"
        for claims, status in (({"tenant": "other"}, 404), ({"apps": ["x"]}, 404), ({"scope": "logs:write"}, 403)):
            async with site.served.client.request(method, url + path, headers=site.header(**claims)) as response:
                assert response.status == status
    address = await opened(site.served, site.header(), lines=5)
    assert (await text_of(site.served, address)).count("\n") == 2


async def test_it_ends_with_the_token_that_opened_it(site: Guarded) -> None:
    address = await opened(site.served, site.header(jti="mine"), tail=True)
    short = await opened(site.served, site.header(seconds=LIFE), tail=True)
    async with site.served.client.get(address) as one, site.served.client.get(short) as other:
        await Lines(one).take(2)
        await Lines(other).take(2)
        assert await Lines(other).next() == b""
        replace(site.revoked, b"mine")
        assert await Lines(one).next() == b""
    for ended in (address, short):
        async with site.served.client.get(ended) as response:
            assert response.status == 403


async def test_nothing_that_opens_a_log_is_in_the_services_own(site: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Nor what stands in it: whoever reads the service's log reads nobody else's."""
    caplog.set_level(logging.DEBUG)
    client, header = site.served.client, site.header()
    await site.served.rig.write(2, text="swordfish")
    address = await opened(site.served, header)
    for url in (address, f"{address}?format=xml", f"{address}?after=9.9.9.9", address[:-1], f"{address}/x"):
        async with client.get(url) as response:
            await response.read()
    tail = await opened(site.served, header, tail=True)
    async with client.ws_connect(tail) as socket:
        async with asyncio.timeout(DEADLINE):
            while "swordfish" not in await socket.receive_str():
                pass
    async with client.post(site.served.logs, data="\xff swordfish\n", headers=header) as response:
        assert response.status == 200
    await until(lambda: site.served.context.tails == 0)
    assert "tail begun" in caplog.text
    for secret in (address.rpartition("/")[2][:100], tail.rpartition("/")[2][-100:], header["Authorization"][7:]):
        assert secret not in caplog.text
    assert "swordfish" not in caplog.text


async def test_a_browser_may_follow_it_from_the_dashboard(site: Guarded) -> None:
    site.served.context.access.origins = frozenset({"https://dashboard.example.com"})
    address = await opened(site.served, site.header(), tail=True)
    headers = {**SSE, "Origin": "https://dashboard.example.com"}
    async with site.served.client.get(address, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://dashboard.example.com"
    await until(lambda: site.served.context.tails == 0)


async def test_its_address_is_the_one_that_clients_reach(served: Served) -> None:
    await served.rig.write(1)
    served.context.access.public_url = "https://logs.example.com"
    url = f"{served.url}/apps/{served.name}/log-sessions"
    async with served.client.post(url) as response:
        assert (await response.json())["logplex_url"].startswith("https://logs.example.com/v1/log-sessions/")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("logs.example.com", 201),
        ("[2001:db8::7]:8080", 201),
        ("a:99999", 400),
        ("a:b", 400),
        ("", 400),
        ("h\xff", 400),
        ("a/b", 400),
        ("user@a", 400),
        ("a b", 400),
    ],
)
async def test_without_one_it_is_what_the_client_used_if_that_can_be_a_host(
    site: Guarded, host: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    served = site.served
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    lines = [f"POST /apps/{served.name}/log-sessions HTTP/1.1", f"Host: {host}", "Content-Length: 0"]
    lines += [f"Authorization: {site.header()['Authorization']}", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    async with asyncio.timeout(DEADLINE):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.split()[1] == str(status).encode(), body
    if status == 201:
        assert orjson.loads(body)["logplex_url"].startswith(f"http://{host}/v1/log-sessions/")
    assert "Traceback" not in caplog.text


async def test_a_websocket_by_session_ends_with_it(served: Served) -> None:
    await served.rig.write(1)
    served.context.access.sessions = Sessions(most=LIFE)
    async with served.client.ws_connect(await opened(served, tail=True)) as socket:
        while (await socket.receive(timeout=DEADLINE)).type == aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == 3000
