"""Keeping up with the API server's objects, whatever it does meanwhile."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from logsvc.errors import ConfigError
from logsvc.sources.kubernetes.apiserver import JOBS, PODS, ApiServer, ApiSettings, Resource
from logsvc.sources.kubernetes.follow import Follower
from logsvc.waiting import waits
from tests.sources.kubernetes import manifests
from tests.sources.kubernetes.flakyserver import FlakyServer, Json, flaky_server
from tests.support import until


@pytest.fixture
async def server() -> AsyncIterator[FlakyServer]:
    async with flaky_server() as server:
        yield server


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


class Seen:
    """What a follower handed on."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.kept: list[str] = []
        """Versions, in the order in which they came."""

    def keep(self, pod: Json) -> None:
        self.pods[pod["metadata"]["uid"]] = pod
        self.kept.append(pod["metadata"]["resourceVersion"])

    def drop(self, uid: str) -> None:
        del self.pods[uid]


@asynccontextmanager
async def following(server: FlakyServer, token: Path, resource: Resource = PODS) -> AsyncIterator[Seen]:
    seen = Seen()
    async with ApiServer.open(ApiSettings(server.url, None, token)) as api:
        follower = Follower(api, resource, seen.keep, seen.drop, "spec.nodeName=node1")
        task = asyncio.create_task(follower.run())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()


def pod(number: int) -> Json:
    return manifests.pod(f"web-{number}", uid=f"u{number}")


async def test_what_there_is_and_what_comes_changes_and_goes_is_handed_on_once(
    server: FlakyServer, token: Path
) -> None:
    for number in range(5):
        server.put("pods", pod(number))
    async with following(server, token) as seen:
        await until(lambda: len(seen.pods) == 5)
        server.put("pods", pod(5))
        server.put("pods", pod(0))
        server.delete("pods", "u1")
        await until(lambda: set(seen.pods) == {"u0", "u2", "u3", "u4", "u5"})
        assert len(seen.kept) == len(set(seen.kept)) == 8
    assert server.requests[0] == (
        "list",
        "pods",
        {"limit": "500", "fieldSelector": "spec.nodeName=node1", "resourceVersion": "0"},
    )
    assert set(server.tokens) == {"Bearer first"}


async def test_a_watch_that_is_cut_goes_on_where_it_was_without_a_list(server: FlakyServer, token: Path) -> None:
    async with following(server, token) as seen:
        for number in range(10):
            server.put("pods", pod(number))
            await until(lambda number=number: f"u{number}" in seen.pods)
            server.cut()
        server.put("pods", pod(10))
        await until(lambda: "u10" in seen.pods)
        assert server.count("list") == 1
        assert len(seen.kept) == len(set(seen.kept)) == 11


async def test_bookmarks_move_the_place_to_go_on_from(server: FlakyServer, token: Path) -> None:
    async with following(server, token) as seen:
        await until(lambda: server.count("watch") == 1)
        for _ in range(20):
            server.bookmark("pods")
        server.put("pods", pod(1))
        await until(lambda: "u1" in seen.pods)
        server.bookmark("pods")
        server.put("pods", pod(2))
        await until(lambda: "u2" in seen.pods)
        server.cut()
        await until(lambda: server.count("watch") == 2)
        assert server.requests[-1][2]["resourceVersion"] == str(server.version)
        assert list(seen.pods) == ["u1", "u2"]


@pytest.mark.parametrize("how", ["the answer", "an event"])
async def test_where_the_server_has_forgotten_a_new_list_tells_what_changed_meanwhile(
    server: FlakyServer, token: Path, how: str
) -> None:
    for number in range(7):
        server.put("pods", pod(number))
    async with following(server, token) as seen:
        await until(lambda: len(seen.pods) == 7)
        await until(lambda: server.count("watch") == 1)
        if how == "an event":
            server.ending = '{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n'
        server.put("pods", pod(0))
        await until(lambda: len(seen.kept) == 8)
        server.objects.pop(("pods", "u1"))
        server.put("pods", pod(7))
        server.forget()
        server.cut()
        await until(lambda: set(seen.pods) == {"u0", *(f"u{number}" for number in range(2, 8))})
        # Not from memory: that may be older than what was seen. In pages, then.
        assert server.count("list") >= 5
        assert len(seen.kept) == len(set(seen.kept)) == 9


@pytest.mark.parametrize(
    ("verb", "rule"),
    [
        ("list", '- {apiGroups: [""], resources: ["pods"], verbs: ["list"]}'),
        ("watch", '- {apiGroups: [""], resources: ["pods"], verbs: ["watch"]}'),
    ],
)
async def test_a_missing_right_is_named_with_the_rule_that_grants_it(
    server: FlakyServer, token: Path, caplog: pytest.LogCaptureFixture, verb: str, rule: str
) -> None:
    server.refused[verb, "pods"] = 403
    with caplog.at_level(logging.INFO):
        async with following(server, token) as seen:
            await until(lambda: server.count(verb) > 2)
            assert len(waits()) == 1
            assert f"refuses to {verb} pods" in waits()[0]
            assert rule in waits()[0]
            del server.refused[verb, "pods"]
            server.put("pods", pod(1))
            await until(lambda: "u1" in seen.pods)
    assert caplog.text.count("the watch of pods waits") == 1


@pytest.mark.parametrize("ending", ["", '{"type":"ERROR","object":{"code":500,"message":"etcd is away"}}\n', "{\n"])
async def test_a_server_that_ends_every_watch_is_not_asked_in_a_loop(
    server: FlakyServer, token: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async with following(server, token) as seen:
        await until(lambda: server.count("watch") == 1)
        monkeypatch.setattr("logsvc.waiting.asyncio.sleep", paused)
        server.ending = ending or " "
        server.cut()
        await until(lambda: not server.ending)
        server.put("pods", pod(1))
        await until(lambda: "u1" in seen.pods)
    assert len([pause for pause in pauses if pause > 0.04]) >= 1


async def test_a_token_is_read_anew_for_each_request_and_one_that_is_missing_is_waited_for(
    server: FlakyServer, tmp_path: Path, token: Path
) -> None:
    def renewed(text: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(text)
        fresh.rename(token)
        server.cut()

    def lost() -> None:
        token.unlink()
        server.cut()

    async with following(server, token):
        await until(lambda: server.count("watch") == 1)
        renewed("second")
        await until(lambda: server.tokens[-1] == "Bearer second")
        lost()
        await until(lambda: any(f"{token} can't be read" in text for text in waits()))
        renewed("third")
        await until(lambda: server.tokens[-1] == "Bearer third")


async def test_a_server_that_is_away_is_waited_for(server: FlakyServer, token: Path) -> None:
    server.refused["list", "pods"] = 503
    async with following(server, token) as seen:
        await until(lambda: server.count("list") > 1)
        server.refused.clear()
        server.put("pods", pod(1))
        await until(lambda: "u1" in seen.pods)


async def test_one_object_is_got_or_is_not_there(server: FlakyServer, token: Path) -> None:
    job = server.put("jobs", {"metadata": {"name": "tick-1", "namespace": "acme", "uid": "j1"}})
    async with ApiServer.open(ApiSettings(server.url, None, token)) as api:
        assert await api.get(JOBS, "acme", "tick-1") == job
        assert await api.get(JOBS, "acme", "tick-2") is None


async def test_an_authority_that_cannot_be_read_is_an_error_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be used as the API server's authority"):
        async with ApiServer.open(ApiSettings("https://localhost", tmp_path / "no.crt", tmp_path / "token")):
            pass
