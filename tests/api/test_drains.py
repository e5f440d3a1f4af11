"""Drains over HTTP, as Heroku's clients ask for them and as ours do."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from logsvc.access.limits import Limits
from logsvc.config import Limits as Settings
from logsvc.drains.model import DrainStatus, State
from tests.api.guarded import Guarded
from tests.api.served import Served, only

URL = "https://user:sEcReT@logs.example.com/in?key=sEcReT#gzip"
HEROKU = {"addon", "created_at", "id", "token", "updated_at", "url"}


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Client:
    """The drains of one app, for one user."""

    def __init__(self, served: Served, headers: dict[str, str] | None = None, app: str = "") -> None:
        self._client, self._headers = served.client, headers or {}
        self.address = f"{served.url}/apps/{app or served.name}/log-drains"

    async def ask(self, method: str, path: str = "", body: Any = None) -> tuple[int, Any]:
        async with self._client.request(method, self.address + path, json=body, headers=self._headers) as response:
            return response.status, await response.json(content_type=None)

    async def add(self, url: str = URL, **others: Any) -> dict[str, Any]:
        status, drain = await self.ask("POST", body={"url": url, **others})
        assert status == 201, drain
        return drain  # type: ignore[no-any-return] # JSON


@pytest.fixture
def drains(served: Served) -> Client:
    return Client(served)


def named(drain: dict[str, Any]) -> list[str]:
    return [quote(drain[member], safe="") for member in ("id", "token", "url")]


async def test_a_drain_is_made_listed_and_taken_away_as_heroku_does(drains: Client) -> None:
    assert await drains.ask("GET") == (200, [])
    made = await drains.add()
    assert set(made) >= HEROKU
    assert only(made, "url", "addon") == {"url": URL, "addon": None}
    assert made["token"].startswith("d.")
    assert made["created_at"] == made["updated_at"]
    assert await drains.ask("GET") == (200, [made])
    for name in named(made):
        assert await drains.ask("GET", f"/{name}") == (200, made)
    for member in ("id", "token", "url"):
        again = await drains.add("https://other.example.com/%7Bx%7D?a=b%2Fc")
        assert await drains.ask("DELETE", f"/{quote(again[member], safe='')}") == (200, again)
        status, problem = await drains.ask("DELETE", f"/{quote(again[member], safe='')}")
        assert (status, problem["id"]) == (404, "not_found")
    assert await drains.ask("GET") == (200, [made])


async def test_what_is_written_from_now_on_is_delivered(served: Served, drains: Client) -> None:
    await served.rig.write(3)
    end = await served.rig.timeline.end()
    made = await drains.add()
    assert served.context.drains.registry.drains[made["id"]].start == end


async def test_the_same_place_twice_is_409(drains: Client) -> None:
    await drains.add()
    for url in (URL, URL.replace("logs.example.com", "LOGS.example.com:443"), URL.removesuffix("#gzip")):
        status, problem = await drains.ask("POST", body={"url": url})
        assert (status, problem["id"]) == (409, "conflict")
        assert problem["message"] == problem["detail"] == "The app has a drain with this URL already."
    other = await drains.add("https://other.example.com")
    status, _ = await drains.ask("PUT", f"/{other['id']}", {"url": URL})
    assert status == 409
    assert (await drains.ask("PUT", f"/{other['id']}", {"url": "https://OTHER.example.com"}))[0] == 200


async def test_of_many_at_once_one_is_made(drains: Client) -> None:
    answers = await asyncio.gather(*(drains.ask("POST", body={"url": URL}) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [201] + [409] * 9


@pytest.mark.parametrize(
    ("body", "parameter", "why"),
    [
        ({}, "url", "say where"),
        ({"url": None}, "url", "is text"),
        ({"url": ""}, "url", "a space"),
        ({"url": "ftp://host"}, "url", "must begin with https://"),
        ({"url": "https://10.0.0.1"}, "url", "may not connect"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "url", "may not connect"),
        ({"url": "syslog://host/path"}, "url", "no user, path"),
        ({"url": URL, "extra": 1}, "extra", "no such member"),
        ({"url": URL, "filter": []}, "filter", "is an object"),
        ({"url": URL, "filter": {"since": ["1h"]}}, "filter.since", "no such filter"),
        ({"url": URL, "filter": {"process": "web"}}, "filter.process", "a list of text"),
        ({"url": URL, "filter": {"process": ["w b"]}}, "process", "letters"),
        ({"url": URL, "filter": {"stream": ["x"]}}, "stream", "stdout or stderr"),
        ({"url": URL, "filter": {"grep_re": ["("]}}, "grep_re", "RE2"),
        ({"url": URL, "filter": {"ignore_case": "yes"}}, "filter.ignore_case", "true or false"),
        ({"url": URL, "ordered": 0}, "ordered", "true or false"),
    ],
)
async def test_what_cannot_be_a_drain_is_422(drains: Client, body: Any, parameter: str, why: str) -> None:
    status, problem = await drains.ask("POST", body=body)
    assert (status, problem["id"], problem["parameter"]) == (422, "invalid_params", parameter)
    assert why in problem["message"]
    assert await drains.ask("GET") == (200, [])


async def test_unencrypted_ones_are_refused_unless_that_is_switched_on(served: Served, drains: Client) -> None:
    served.context.drains.unencrypted = False
    for scheme in ("http", "otlp+http", "loki+http"):
        status, problem = await drains.ask("POST", body={"url": f"{scheme}://logs.example.com"})
        assert (status, "unencrypted" in problem["message"]) == (422, True)
        served.context.drains.unencrypted = True
        await drains.add(f"{scheme}://logs.example.com")
        served.context.drains.unencrypted = False
    await drains.add("syslog://logs.example.com")


async def test_a_filter_is_kept_and_changed(served: Served, drains: Client) -> None:
    wanted = {"process": ["web", "worker"], "not_source": ["platform"], "grep": ["b", "a"], "ignore_case": True}
    made = await drains.add(filter=wanted)
    assert made["filter"] == wanted
    kept = served.context.drains.registry.drains[made["id"]].filter
    assert (kept.process, kept.grep, kept.ignore_case) == (frozenset({"web", "worker"}), ("b", "a"), True)
    status, changed = await drains.ask("PUT", f"/{made['id']}", {"filter": {}})
    assert (status, changed["filter"], changed["url"]) == (200, {}, URL)


async def test_the_order_is_kept_unless_it_is_waived(served: Served, drains: Client) -> None:
    assert (await drains.add())["ordered"]
    made = await drains.add("https://other.example.com", ordered=False)
    registry = served.context.drains.registry
    assert (made["ordered"], registry.drains[made["id"]].ordered) == (False, False)
    status, changed = await drains.ask("PUT", f"/{made['id']}", {"ordered": True})
    assert (status, changed["ordered"], registry.drains[made["id"]].ordered) == (200, True, True)
    assert changed["url"] == "https://other.example.com"


async def test_put_gives_another_url_and_the_token_stays(drains: Client) -> None:
    made = await drains.add()
    status, changed = await drains.ask("PUT", f"/{quote(URL, safe='')}", {"url": "syslog+tls://logs.example.com:1"})
    assert status == 200
    assert changed == {**made, "url": "syslog+tls://logs.example.com:1", "updated_at": changed["updated_at"]}
    assert (await drains.ask("PUT", f"/{made['id']}", {}))[0] == 422
    assert (await drains.ask("PUT", "/no-such", {"url": URL}))[0] == 404


async def test_a_drain_rests_and_goes_on(served: Served, drains: Client) -> None:
    made = await drains.add()
    for action, paused in (("pause", True), ("pause", True), ("resume", False)):
        status, drain = await drains.ask("POST", f"/{made['token']}/actions/{action}")
        assert (status, drain["paused"]) == (200, paused)
        assert served.context.drains.registry.drains[made["id"]].paused is paused


async def test_a_status_says_how_it_does(served: Served, drains: Client) -> None:
    made = await drains.add()
    _, (shown,) = await drains.ask("GET", "?status=true")
    assert (shown["status"]["state"], shown["status"]["error"]) == ("starting", None)
    now = int(time.time())
    status = DrainStatus(State.RETRYING, now, 12, 3.25, 500, 20.04, "503", error_at=1_795_399_199.0, retry_at=now + 30)
    async with served.context.drains.registry.hold(0) as share:  # type: ignore[attr-defined] # a LocalDrains is both
        await share.report(made["id"], status)
    assert (await drains.ask("GET", f"/{made['id']}?status=true"))[1]["status"] == {
        "state": "retrying",
        "at": moment(now),
        "lag_lines": 12,
        "lag_seconds": 3.2,
        "lines": 500,
        "lines_per_second": 20.0,
        "error": "503",
        "error_at": "2026-11-23T01:59:59Z",
        "retry_at": moment(now + 30),
    }
    await drains.ask("POST", f"/{made['id']}/actions/pause")
    assert (await drains.ask("GET", f"/{made['id']}?status=true"))[1]["status"]["state"] == "paused"


async def test_one_of_which_nobody_has_said_anything_for_long_is_unattended(
    served: Served, drains: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await drains.add()
    async with served.context.drains.registry.hold(0) as share:  # type: ignore[attr-defined] # as above
        await share.report(made["id"], DrainStatus(State.DELIVERING, time.time()))
    assert (await drains.ask("GET", f"/{made['id']}?status=true"))[1]["status"]["state"] == "delivering"
    monkeypatch.setattr("logsvc.api.drains._SILENCE", -1.0)
    assert (await drains.ask("GET", f"/{made['id']}?status=true"))[1]["status"]["state"] == "unattended"


async def test_a_test_sends_one_line_and_says_what_came_back(drains: Client) -> None:
    got: list[bytes] = []
    status = 204

    async def take(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/in", take)
    async with TestServer(app, host="127.0.0.1") as receiver:
        made = await drains.add(str(receiver.make_url("/in")))
        code, trial = await drains.ask("POST", f"/{made['id']}/actions/test")
        assert (code, trial["taken"]) == (200, True)
        assert got[0].count(b"\n") == 1
        assert made["token"].encode() in got[0]
        status = 503
        _, trial = await drains.ask("POST", f"/{made['id']}/actions/test")
        assert trial["taken"] is False
        assert "503" in trial["answer"]
    _, trial = await drains.ask("POST", f"/{made['id']}/actions/test")
    assert trial["taken"] is False
    assert len(got) == 2


async def test_whoever_deletes_an_app_takes_all_its_drains(served: Served, drains: Client) -> None:
    other = Client(served, app="other")
    kept = await other.add()
    made = [await drains.add(f"https://host-{number}.example.com") for number in range(3)]
    status, gone = await drains.ask("DELETE")
    assert (status, sorted(each["id"] for each in gone)) == (200, sorted(each["id"] for each in made))
    assert await drains.ask("GET") == (200, [])
    assert await other.ask("GET") == (200, [kept])


async def test_other_apps_have_other_drains(served: Served, drains: Client) -> None:
    made = await drains.add()
    other = Client(served, app="other")
    assert await other.ask("GET") == (200, [])
    for name in named(made):
        for method in ("GET", "DELETE"):
            assert (await other.ask(method, f"/{name}"))[0] == 404


async def test_what_heroku_asks_for_besides(drains: Client) -> None:
    made = await drains.add()
    assert (await drains.ask("GET", "?extended=true"))[1] == [{**made, "extended": {"drain_id": made["id"]}}]
    assert (await drains.ask("GET", "?no-such=1"))[0] == 400


# ---- with tokens


async def test_to_change_takes_a_scope_and_to_list_either(site: Guarded) -> None:
    reader = Client(site.served, site.header(scope="logs:read"))
    owner = Client(site.served, site.header(scope="drains:write"))
    status, problem = await reader.ask("POST", body={"url": URL})
    assert (status, problem["id"]) == (403, "forbidden")
    made = await owner.add()
    changes = [("PUT", ""), ("DELETE", ""), ("POST", "/actions/test"), ("POST", "/actions/pause")]
    for method, path in [("DELETE", ""), *((method, f"/{made['id']}{path}") for method, path in changes)]:
        assert (await reader.ask(method, path))[0] == 403
    assert (await Client(site.served).ask("GET"))[0] == 401
    assert (await Client(site.served, site.header(scope="logs:write")).ask("GET"))[0] == 403
    assert await owner.ask("GET") == (200, [made])
    assert (await reader.ask("GET"))[0] == 200


async def test_secrets_are_shown_to_the_owner_only(site: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    owner = Client(site.served, site.header(scope="drains:write"))
    made = await owner.add()
    assert made["url"] == URL
    reader = Client(site.served, site.header(scope="logs:read"))
    operator = Client(site.served, {**site.header(scope="drains:write logs:operate", tenant=None),
                                    "Logsvc-Tenant": "local"})  # fmt: skip
    for somebody in (reader, operator):
        for answer in (await somebody.ask("GET"), await somebody.ask("GET", f"/{made['id']}")):
            assert answer[0] == 200
            assert "sEcReT" not in str(answer[1])
            assert "https://****@logs.example.com/****#gzip" in str(answer[1])
    await owner.ask("PUT", f"/{quote(URL, safe='')}", {"url": URL + "&insecure"})
    await owner.ask("POST", f"/{quote(URL, safe='')}/actions/pause")
    await owner.ask("DELETE", f"/{quote(URL, safe='')}")
    events = [vars(record)["fields"]["event"] for record in caplog.records if record.name == "logsvc.audit"]
    assert [event for event in events if event != "operator"] == [
        "drain added",
        "drain changed",
        "drain paused",
        "drain removed",
    ]
    assert "sEcReT" not in caplog.text
    assert made["token"] not in caplog.text


async def test_a_tenant_sees_its_own_drains_only(site: Guarded) -> None:
    made = await Client(site.served, site.header(scope="drains:write")).add()
    stranger = Client(site.served, site.header(scope="drains:write", tenant="stranger"))
    assert await stranger.ask("GET") == (200, [])
    for name in named(made):
        assert (await stranger.ask("DELETE", f"/{name}"))[0] == 404
    elsewhere = Client(site.served, site.header(scope="drains:write", apps=["another"]))
    assert (await elsewhere.ask("GET"))[0] == 404


async def test_an_app_has_as_many_as_its_plan_allows(site: Guarded) -> None:
    site.served.context.access.limits = Limits(Settings(default="free", drains={"free": 2}))
    owner = Client(site.served, site.header(scope="drains:write"))
    answers = await asyncio.gather(
        *(owner.ask("POST", body={"url": f"https://host-{n}.example.com"}) for n in range(5))
    )
    assert sorted(status for status, _ in answers) == [201, 201, 422, 422, 422]
    assert (
        next(problem for status, problem in answers if status == 422)["message"]
        == "Your plan allows 2 drains for an app."
    )
    await Client(site.served, site.header(scope="drains:write"), app="other").add()
