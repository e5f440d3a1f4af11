"""Who may read what, over HTTP: tokens good and bad, of other tenants, rotated, revoked and guessed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from logsvc.access.gate import Gate
from logsvc.access.static import mint
from logsvc.api.context import Access
from logsvc.api.delivery import Delivery
from logsvc.buckets import Buckets
from logsvc.config import Auth
from logsvc.errors import ConfigError
from logsvc.store.protocol import Store
from tests.api.guarded import Guarded, guarded, replace
from tests.api.served import NDJSON, SSE, Events, Lines, problem_of
from tests.support.tokens import Issuer
from tests.support.wait import DEADLINE, until

LIFE = 4.0
"""Seconds that a token or session is good for where its end is waited for: enough to open a few tails with it."""


async def test_a_token_opens_its_tenants_apps(site: Guarded) -> None:
    for claims in ({}, {"apps": [site.served.name]}):
        async with site.get("?num=2", **claims) as response:
            assert response.status == 200
            assert (await response.text()).count("\n") == 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer a.b.c"},
    ],
)
async def test_without_a_good_token_everything_is_401(site: Guarded, given: dict[str, str]) -> None:
    name, client = site.served.name, site.served.client
    for method, path in [
        ("GET", "/v1/apps"),
        ("GET", f"/v1/apps/{name}/logs"),
        ("GET", f"/v1/apps/{name}/logs?tail=1"),
        ("GET", f"/v1/apps/{name}/volume"),
        ("POST", f"/v1/apps/{name}/logs"),
        ("GET", "/v1/apps/no-such-app/logs"),
    ]:
        async with client.request(method, site.served.url + path, headers=given) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")
            await problem_of(response)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(site.served.logs, headers=given)
    assert refused.value.status == 401
    for open_path in ("/healthz", "/readyz", "/metrics"):
        async with client.get(site.served.url + open_path) as response:
            assert response.status == 200


async def test_two_tokens_are_none(site: Guarded) -> None:
    token = f"Bearer {site.issuer.token()}"
    headers = [("Authorization", token), ("Authorization", token)]
    async with site.served.client.get(site.served.logs, headers=headers) as response:
        assert response.status == 401


async def test_each_thing_takes_its_scope(site: Guarded) -> None:
    async with site.get(scope="logs:write") as response:
        assert response.status == 403
        assert 'scope="logs:read"' in response.headers["WWW-Authenticate"]
        assert "logs:read" in (await problem_of(response))["detail"]
    post = site.served.client.post
    for scope, status in (("logs:read", 403), ("logs:write", 200)):
        async with post(site.served.logs, data="line\n", headers=site.header(scope=scope)) as response:
            assert response.status == status


async def test_an_app_of_others_looks_like_one_that_is_not_there(site: Guarded) -> None:
    """Of another tenant, and of one's own where the token is for other apps."""
    name = site.served.name
    missing = "no-such-app"
    for claims in ({"tenant": "other"}, {"apps": ["another"]}):
        for path in ("logs", "logs?tail=1&num=0", "volume", f"logs?after={site.served.rig.lines[0].cursor}"):
            answers = []
            for app in (name, missing):
                url = f"{site.served.url}/v1/apps/{app}/{path}"
                async with site.served.client.get(url, headers=site.header(**claims)) as response:
                    assert response.status == 404
                    answers.append((await response.text()).replace(app, "?"))
            assert answers[0] == answers[1]
        async with site.served.client.get(f"{site.served.url}/v1/apps", headers=site.header(**claims)) as response:
            assert name not in await response.text()


async def test_a_post_under_the_same_name_goes_to_ones_own_tenant(site: Guarded) -> None:
    other = site.header(tenant="other")
    async with site.served.client.post(site.served.logs, data="theirs\n", headers=other) as response:
        assert response.status == 200
    async with site.get() as response:
        assert "theirs" not in await response.text()
    async with site.served.client.get(site.served.logs, headers=other) as response:
        text = await response.text()
        assert text.endswith("theirs\n")
        assert text.count("\n") == 1


async def test_a_tail_ends_when_its_token_expires(site: Guarded) -> None:
    ended = await site.counted("leases_ended", "expired")
    async with (
        site.served.client.get(f"{site.served.logs}?tail=1", headers={**site.header(seconds=LIFE), **SSE}) as sse,
        site.served.client.get(f"{site.served.logs}?tail=1", headers={**site.header(seconds=LIFE), **NDJSON}) as ndjson,
        site.served.client.ws_connect(f"{site.served.logs}?tail=1", headers=site.header(seconds=LIFE)) as socket,
    ):
        events = Events(sse)
        assert len(await events.lines(3)) == 3
        assert await events.next() is None
        assert len(await Lines(ndjson).take(3)) == 3
        assert await Lines(ndjson).next() == b""
        while (message := await socket.receive(timeout=DEADLINE)).type == aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 3000)
    await until(lambda: site.served.context.tails == 0)
    assert await site.counted("leases_ended", "expired") == ended + 3


async def test_a_tail_ends_when_its_token_is_revoked(site: Guarded) -> None:
    other, ended = site.header(jti="others"), await site.counted("leases_ended", "revoked")
    headers = {**site.header(jti="mine"), **SSE}
    async with (
        site.served.client.get(f"{site.served.logs}?tail=1", headers=headers) as mine,
        site.served.client.get(f"{site.served.logs}?tail=1", headers={**other, **SSE}) as theirs,
    ):
        await Events(mine).lines(3)
        await Events(theirs).lines(3)
        replace(site.revoked, b"# stolen\nmine\n")
        async with asyncio.timeout(DEADLINE):
            assert await Events(mine).next() is None
        await site.served.rig.write(1)
        assert len(await Events(theirs).lines(1)) == 1
    assert await site.counted("leases_ended", "revoked") == ended + 1
    async with site.served.client.get(site.served.logs, headers=headers) as response:
        assert response.status == 401


async def test_a_post_ends_when_its_token_does(site: Guarded) -> None:
    """Whoever has a stream open when a token is taken away gets not one further line in."""
    going, header = asyncio.Event(), {**site.header(jti="mine"), "Content-Type": "text/plain"}

    async def taken() -> bool:
        async with site.get("?num=1") as response:
            return (await response.text()).endswith("before\n")

    async def body() -> AsyncIterator[bytes]:
        yield b"before\n"
        await going.wait()
        yield b"after\n"

    async def post() -> tuple[int, str]:
        async with site.served.client.post(site.served.logs, data=body(), headers=header) as response:
            return response.status, (await problem_of(response))["detail"]

    async with asyncio.TaskGroup() as tasks:
        posting = tasks.create_task(post())
        await until(taken)
        replace(site.revoked, b"mine\n")
        assert await posting == (401, "The token has ended. Lines before that were taken.")
        going.set()
    assert await taken()


async def test_a_token_that_is_revoked_while_its_lines_are_searched_for_opens_nothing(
    site: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission and the tail may lie seconds apart, and a tail that began then would never end."""
    searching, go_on = asyncio.Semaphore(0), asyncio.Event()
    opening = Delivery.open

    async def slowly(delivery: Delivery) -> None:
        searching.release()
        await go_on.wait()
        await opening(delivery)

    header, client, logs = site.header(jti="mine"), site.served.client, site.served.logs
    sessions = f"{site.served.url}/apps/{site.served.name}/log-sessions"
    async with client.post(sessions, json={"tail": True}, headers=header) as response:
        session = (await response.json())["logplex_url"]
    monkeypatch.setattr(Delivery, "open", slowly)

    async def status(url: str, headers: dict[str, str]) -> int:
        async with client.get(url, headers=headers) as response:
            return response.status

    async def handshake() -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{logs}?tail=1", headers=header)
        return refused.value.status

    async with asyncio.TaskGroup() as tasks:
        asked = [status(f"{logs}?tail=1", header), status(session, {}), handshake()]
        answers = [tasks.create_task(one) for one in asked]
        for _ in asked:
            await searching.acquire()
        replace(site.revoked, b"mine\n")

        async def revoked() -> bool:
            return await status(f"{site.served.url}/v1/apps", header) == 401

        await until(revoked, what="the file is read again")
        go_on.set()
    assert [answer.result() for answer in answers] == [401, 403, 401]
    assert site.served.context.tails == 0


async def test_a_static_token_is_good_until_it_is_taken_out_or_is_to_expire_earlier(site: Guarded) -> None:
    token, entry = mint("ci", "local", ["logs:read"], [])
    header = {"Authorization": f"Bearer {token}"}

    async def status() -> int:
        async with site.served.client.get(site.served.logs, headers=header) as response:
            return response.status

    async def good() -> bool:
        return await status() == 200

    assert await status() == 401
    later, earlier = (entry + f"expires = {year}-01-01T00:00:00Z\n" for year in (2999, 2998))
    for before, after in ((entry, later), (later, earlier), (earlier, "")):
        replace(site.tokens, before.encode())
        await until(good, what="the file is read again")
        async with site.served.client.get(f"{site.served.logs}?tail=1", headers={**header, **NDJSON}) as response:
            await Lines(response).take(3)
            replace(site.tokens, after.encode())
            async with asyncio.timeout(DEADLINE):
                assert await Lines(response).next() == b""
    assert await status() == 401


async def test_keys_rotate_and_a_dropped_key_takes_its_tails_with_it(site: Guarded) -> None:
    old = site.issuer.kid
    before = site.header()
    async with site.served.client.get(f"{site.served.logs}?tail=1", headers={**before, **NDJSON}) as tail:
        await Lines(tail).take(3)
        site.issuer.rotate("EdDSA")
        site.publish()

        async def rotated() -> bool:
            async with site.get() as response:
                return response.status == 200

        await until(rotated, what="the new key is known")
        await site.served.rig.write(1)
        await Lines(tail).take(1)
        site.issuer.drop(old)
        site.publish()
        async with asyncio.timeout(DEADLINE):
            assert await Lines(tail).next() == b""
    async with site.served.client.get(site.served.logs, headers=before) as response:
        assert response.status == 401


async def test_a_key_that_is_replaced_under_its_id_takes_its_tails_with_it(site: Guarded) -> None:
    async with site.served.client.get(f"{site.served.logs}?tail=1", headers={**site.header(), **NDJSON}) as tail:
        await Lines(tail).take(3)
        site.issuer.replace()
        site.publish()
        async with asyncio.timeout(DEADLINE):
            assert await Lines(tail).next() == b""
    async with site.get() as response:
        assert response.status == 200


async def test_keys_by_address_are_fetched_again_for_a_key_that_is_new(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.access.gate._AGAIN", 0.0)
    issuer = Issuer()
    asked, away = 0, False

    async def jwks(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if away:
            raise web.HTTPBadGateway
        return web.Response(body=issuer.jwks())

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    async with TestServer(app) as server, guarded(store, tmp_path, jwks=str(server.make_url("/jwks"))) as site:
        site.issuer = issuer
        await site.served.rig.write(1)
        async with site.get() as response:
            assert response.status == 200
        assert asked == 1
        issuer.rotate()
        async with site.get() as response:
            assert response.status == 200
        assert asked == 2
        away = True
        issuer.rotate()
        async with site.get() as response:
            assert response.status == 401
        issuer.drop(issuer.kid)
        issuer.kid = "key-2"
        async with site.get() as response:
            assert response.status == 200


async def test_where_keys_cannot_be_had_it_says_so_and_starts_all_the_same(store: Store, tmp_path: Path) -> None:
    async with guarded(store, tmp_path, jwks="http://127.0.0.1:9/jwks") as site, site.get() as response:
        assert response.status == 503
        assert "Retry-After" in response.headers


async def test_guessing_is_slowed_down_and_disturbs_nobody(store: Store, tmp_path: Path) -> None:
    async with guarded(store, tmp_path, failures=5) as site:
        await site.served.rig.write(1)
        site.served.context.access.attempts = Buckets(lambda: 0.0)  # in no time, however long it takes
        known = site.header()

        async def status(headers: dict[str, str]) -> int:
            async with site.served.client.get(site.served.logs, headers=headers) as response:
                if response.status == 429:
                    assert int(response.headers["Retry-After"]) >= 1
                return response.status

        assert await status(known) == 200
        guesses = [await status({"Authorization": f"Bearer lsv_{number}"}) for number in range(20)]
        assert guesses[:5] == [401] * 5
        assert guesses[5:] == [429] * 15
        assert await status(known) == 200
        assert await status(site.header(sub="new")) == 429


async def test_an_operator_chooses_a_tenant_and_it_is_written_down(
    site: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "logsvc.audit")
    operator = site.header(tenant=None, sub="ops", scope="logs:read logs:operate")
    client, logs = site.served.client, site.served.logs
    async with client.get(logs, headers={**operator, "Logsvc-Tenant": "local"}) as response:
        assert response.status == 200
    assert 'operator subject="ops" tenant="local"' in caplog.text
    assert f'app="{site.served.name}"' in caplog.text
    for headers, status in (
        (operator, 400),
        ({**operator, "Logsvc-Tenant": "a/b"}, 400),
        ({**operator, "Logsvc-Tenant": "other"}, 404),
        ({**site.header(), "Logsvc-Tenant": "local"}, 200),
        ({**site.header(tenant="other"), "Logsvc-Tenant": "local"}, 403),
    ):
        async with client.get(logs, headers=headers) as response:
            assert response.status == status


async def test_each_tail_is_written_down_and_no_token_is(site: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    header = site.header()
    url = f"{site.served.logs}?tail=1&process=web&grep=m"
    async with site.served.client.get(url, headers={**header, **NDJSON}) as response:
        await Lines(response).take(3)
    await until(lambda: site.served.context.tails == 0)
    found = [record for record in caplog.records if record.name == "logsvc.audit"]
    assert [vars(record)["fields"]["event"] for record in found] == ["tail begun", "tail"]
    fields = vars(found[1])["fields"]
    assert (fields["subject"], fields["app"], fields["lines"]) == ("anna", site.served.name, 3)
    assert fields["filters"] == {"process": ["web"], "grep": ("m",)}
    assert header["Authorization"].partition(" ")[2] not in caplog.text


async def test_pages_of_other_hosts_may_use_a_token(site: Guarded) -> None:
    """With tokens nothing is given to whoever has none, so Host and Origin need not be local."""
    headers = {**site.header(), "Host": "logs.example.com", "Origin": "https://dashboard.example.com"}
    async with site.served.client.get(site.served.logs, headers=headers) as response:
        assert response.status == 200
        assert "Access-Control-Allow-Origin" not in response.headers
    site.served.context.access.origins = frozenset({"https://dashboard.example.com"})
    async with site.served.client.get(site.served.logs, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://dashboard.example.com"
        assert "Origin" in response.headers["Vary"]
    ask = {"Origin": "https://dashboard.example.com", "Access-Control-Request-Method": "GET"}
    async with site.served.client.options(site.served.logs, headers=ask) as response:
        assert response.status == 204
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    for origin in ("https://evil.example", "null", ""):
        async with site.served.client.get(site.served.logs, headers={**headers, "Origin": origin}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
        async with site.served.client.options(site.served.logs, headers={**ask, "Origin": origin}) as response:
            assert response.status == 405


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"jwks": "http://id.example/jwks", "audience": "logs"}, "https"),
        ({"jwks": "keys.json"}, "audience"),
        ({"jwks": "no-such-file", "audience": "logs"}, "no such file"),
        ({"tokens_file": "no-such-file"}, "no such file"),
    ],
)
async def test_settings_that_would_let_others_in_stop_the_start(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        await Gate.open(Auth(**settings), Access().leases).__aenter__()
