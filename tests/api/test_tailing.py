"""Tails: live without a seam, resumed with the very next line, moved on by heartbeats, and ended in order."""

import asyncio
import math
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson
import pytest
import zstandard
from multidict import MultiDict

from logsvc.api.delivery import Delivery
from logsvc.api.query import read_query
from logsvc.errors import StoreAway, TooCostly
from logsvc.formats.representations import NewlineDelimitedJson
from logsvc.model import Cursor
from logsvc.store.protocol import Store
from tests.api.served import NDJSON, SSE, Events, Lines, Served, problem_of, serving, stop
from tests.support.store import Away
from tests.support.wait import DEADLINE, until


async def test_history_runs_into_live_lines_in_every_representation(served: Served) -> None:
    for _ in range(4):
        await served.rig.write(3)
    await served.rig.store_upto(2)
    async with (
        served.get("tail=true&num=5", **SSE) as sse,
        served.get("tail=true&num=5", **NDJSON) as ndjson,
        served.get("tail=true&num=5") as text,
        served.client.ws_connect(f"{served.logs}?tail=true&num=5") as socket,
    ):
        for _ in range(5):
            await served.rig.write(4)
        expected = served.rig.lines[-25:]
        fields = [line.fields() for line in expected]
        assert await Events(sse).lines(25) == fields
        assert [orjson.loads(line) for line in await Lines(ndjson).take(25)] == fields
        assert await Lines(text).take(25) == [line.text() for line in expected]
        assert await lines_of(socket, 25) == fields


async def lines_of(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = await socket.receive_json(timeout=DEADLINE)
        found += message["lines"]
    return found


async def test_every_representation_resumes_with_the_very_next_line(served: Served) -> None:
    for _ in range(4):
        await served.rig.write(3)
    await served.rig.store_upto(2)
    for number, line in enumerate(served.rig.lines[:-1]):
        following = served.rig.lines[number + 1]
        async with served.get("tail=true&num=1", **SSE, Last_Event_ID=str(line.cursor)) as response:
            assert (await Events(response).lines(1))[0] == following.fields()
        async with served.get(f"tail=true&after={line.cursor}&cursor=true", **NDJSON) as response:
            assert await Lines(response).object() == following.fields(cursor=True)
        async with served.get(f"tail=true&after={line.cursor}") as response:
            assert await Lines(response).next() == following.text()
        async with served.client.ws_connect(f"{served.logs}?tail=true&after={line.cursor}") as socket:
            assert (await lines_of(socket, 1))[0] == following.fields()


async def test_a_tail_from_the_end_answers_at_once_and_waits_for_lines(served: Served) -> None:
    await served.rig.write(3)
    async with asyncio.timeout(DEADLINE), served.get("tail=true&num=0", **NDJSON) as response:
        assert response.headers["Logsvc-Cursor"] == str(Cursor(served.rig.bus.epoch, 0, 1, -1))
        await served.rig.write(1, text="new")
        assert (await Lines(response).object())["message"] == "new3"


async def test_a_tail_of_the_first_lines_behind_a_cursor_is_complete_after_them(served: Served) -> None:
    await served.rig.write(3)
    async with served.get(f"tail=true&num=4&after={served.rig.lines[0].cursor}", **SSE) as response:
        events = Events(response)
        assert len(await events.lines(2)) == 2
        await served.rig.write(5)
        assert [line["message"] for line in await events.lines(2)] == ["m3", "m4"]
        last = await events.next()
        assert last is not None
        assert last.type == "end"
        assert await events.next() is None


async def test_tails_that_look_alike_share_frames_and_get_the_same(served: Served) -> None:
    """Twenty tails of four kinds; each gets what its filter lets through, once and in order."""
    await served.rig.write(1)
    queries = ["", "stream=stderr", "grep=7", "cursor=true"] * 5
    responses = [await served.get(f"tail=true&num=0&{query}", **NDJSON) for query in queries]
    for _ in range(40):
        await served.rig.write(3, text="line ")
    for query, response in zip(queries, responses, strict=True):
        expected = [
            line.fields(cursor="cursor" in query)
            for line in served.rig.lines[1:]
            if ("stderr" not in query or line.stream == "stderr") and ("grep" not in query or b"7" in line.message)
        ]
        assert [await Lines(response).object() for _ in expected] == expected
        response.close()


async def test_heartbeats_move_the_cursor_on_where_nothing_passes(store: Store) -> None:
    async with serving(store, heartbeat=0.05) as served:
        await served.rig.write(3)
        async with (
            served.get("tail=true&grep=never", **SSE) as sse,
            served.get("tail=true&grep=never", **NDJSON) as ndjson,
            served.client.ws_connect(f"{served.logs}?tail=true&grep=never") as socket,
        ):
            for _ in range(3):
                await served.rig.write(2)
            end = str(await served.rig.timeline.end())
            events = Events(sse)
            async with asyncio.timeout(DEADLINE):
                while events.stream.last_event_id != end:
                    assert events.stream.feed(await sse.content.readany()) == []
                while (beat := await Lines(ndjson).object()) != {"heartbeat": True, "cursor": end}:
                    assert beat["heartbeat"]
                while (await socket.receive_json()) != {"heartbeat": True, "cursor": end}:
                    pass
        assert await served.messages(f"after={end}") == []
        await served.rig.write(1)
        assert await served.messages(f"after={end}") == served.all()[-1:]


async def test_a_tail_far_behind_that_finds_nothing_is_told_where_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.legs.STEP_BYTES", 1)
    async with serving(store) as served:
        for _ in range(20):
            await served.rig.write(1)
        async with served.rig.router.watch(served.rig.app):
            await served.rig.window_is_full()
            served.context.heartbeat = 1e-9
            async with served.get("tail=true&since=9999d&grep=never", **NDJSON) as response:
                beats = [await Lines(response).object() for _ in range(20)]
                await stop(served.rig, served.context)
        assert [beat["cursor"] for beat in beats] == [f"{served.rig.bus.epoch}.0.{n}.-1" for n in range(1, 21)]


async def test_lines_that_come_while_a_heartbeat_is_sent_are_not_slept_through(store: Store) -> None:
    """Heartbeats all the time, and nobody wakes the reader but the lines themselves."""
    async with serving(store) as served:
        served.context.heartbeat = 0.001
        await served.rig.write(1)
        async with served.get("tail=true&num=0", **SSE) as response:
            events = Events(response)
            for number in range(50):
                await served.rig.write(1)
                assert (await events.lines(1))[0]["message"] == f"m{number + 1}"


async def test_who_comes_back_to_the_place_of_a_heartbeat_gets_what_came_meanwhile(store: Store) -> None:
    """What others were told at that place before must not be told again."""
    async with serving(store, linger=60.0) as served:
        await served.rig.write(1)
        end = await served.rig.timeline.end()
        async with served.get(f"tail=true&after={end}", **NDJSON):
            feed = served.rig.router.window(0).feed(served.rig.app)  # type: ignore[union-attr]  # it is watched
            await until(lambda: feed.frames, what="the tail has looked")
        await until(lambda: not feed.watchers, what="the tail has gone")
        await served.rig.write(1)
        await served.rig.window_is_full()
        async with served.get(f"tail=true&after={end}", **NDJSON) as response:
            assert (await Lines(response).object())["message"] == "m1"


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("identity;q=0.1, gzip;q=0.2, br", "gzip"),
    ],
)
async def test_a_compressed_tail_is_live(served: Served, accept: str, coding: str) -> None:
    """What was written can be decoded before anything more comes, and the end is a proper one."""
    await served.rig.write(2)
    headers = {"Accept-Encoding": accept, **NDJSON}
    decoder = zlib.decompressobj(wbits=31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.get(f"{served.logs}?tail=true", headers=headers) as response,
    ):
        assert response.headers["Content-Encoding"] == coding
        assert "Accept-Encoding" in response.headers["Vary"]
        text = b""
        async with asyncio.timeout(DEADLINE):
            for count in range(2, 30, 3):
                while text.count(b"\n") < count:
                    text += decoder.decompress(await response.content.readany())
                await served.rig.write(3)
            await stop(served.rig, served.context)
            text += decoder.decompress(await response.content.read())
    assert decoder.eof
    assert [orjson.loads(line)["message"] for line in text.splitlines()] == served.all()


@pytest.mark.parametrize("accept", ["", "identity", "br", "gzip;q=0", "gzip;q=x", "gzip;q=0.1, identity;q=0.2"])
async def test_who_asks_for_no_known_coding_gets_none(served: Served, accept: str) -> None:
    await served.rig.write(1)
    async with served.client.get(served.logs, headers={"Accept-Encoding": accept}) as response:
        assert "Content-Encoding" not in response.headers
        assert (await response.read()).endswith(b": m0\n")


async def test_when_the_service_stops_tails_end_and_say_so(served: Served) -> None:
    await served.rig.write(2)
    async with (
        served.get("tail=true", **SSE) as sse,
        served.get("tail=true", **NDJSON) as ndjson,
        served.get("tail=true") as text,
        served.client.ws_connect(f"{served.logs}?tail=true") as socket,
    ):
        events = Events(sse)
        await events.lines(2)
        await lines_of(socket, 2)
        await stop(served.rig, served.context)
        assert await events.next() is None
        assert events.stream.retry == 200
        assert len((await ndjson.read()).splitlines()) == 2
        assert len((await text.read()).splitlines()) == 2
        assert (await socket.receive(timeout=DEADLINE)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1012
    async with served.client.get(f"{served.url}/readyz") as response:
        assert response.status == 503
        assert (await problem_of(response))["detail"] == "Stopping."
    await until(lambda: served.context.tails == 0)


async def test_one_tail_too_many_is_refused_until_one_ends(store: Store) -> None:
    async with serving(store, max_tails=2) as served:
        await served.rig.write(1)
        async with served.get("tail=true", **SSE), served.get("tail=true"):
            async with served.get("tail=true") as refused:
                assert refused.status == 503
                assert refused.headers["Retry-After"] == "5"
                await problem_of(refused)
            assert await served.messages() == ["m0"], "who doesn't tail is not counted"
        await until(lambda: served.context.tails < 2)
        async with served.get("tail=true") as response:
            assert response.status == 200


async def test_a_tail_where_the_store_is_far_behind_starts_live_and_says_so(store: Store) -> None:
    async with serving(store, cold_lag=5.0, now=lambda: time.time() + 60) as served:
        await served.rig.write(3)
        async with served.get("tail=true", **NDJSON) as response, served.get("tail=true", **NDJSON) as second:
            await served.rig.write(1)
            for tail in (response, second):
                assert "since=" in (await Lines(tail).object())["notice"]
                assert (await Lines(tail).object())["message"] == "m3"
        async with served.get("tail=true&since=9999d", **NDJSON) as response:
            assert [(await Lines(response).object())["message"] for _ in range(4)] == served.all()
        assert await served.messages("num=2") == served.all()[-2:], "who doesn't tail gets all"


async def test_tails_survive_a_store_that_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live one doesn't notice; one that needs the store is told once, waits, and loses nothing."""
    monkeypatch.setattr("logsvc.api.delivery.LONGEST_PAUSE", 0.01)
    away = Away(store)
    async with serving(away) as served:  # type: ignore[arg-type]  # it is a store by delegation
        for _ in range(6):
            await served.rig.write(2)
        await served.rig.store_upto(4)
        async with served.get("tail=true&num=0", **NDJSON) as live:
            away.away = True
            async with (
                served.get("tail=true&since=9999d", **NDJSON) as behind,
                served.client.ws_connect(f"{served.logs}?tail=true&since=9999d") as socket,
            ):
                notice = await Lines(behind).object()
                assert "store is away" in notice["notice"]
                assert notice["cursor"] == str(served.rig.timeline.start)
                assert "notice" in await socket.receive_json(timeout=DEADLINE)
                await served.rig.write(1)
                assert (await Lines(live).object())["message"] == "m12"
                tries = away.tries
                await until(lambda: away.tries > tries + 3, what="it is tried again")
                away.away = False
                assert [(await Lines(behind).object())["message"] for _ in range(13)] == served.all()
                assert [line["message"] for line in await lines_of(socket, 13)] == served.all()


async def test_a_tail_that_waits_for_the_store_ends_when_the_service_stops(store: Store) -> None:
    away = Away(store)
    async with serving(away) as served:  # type: ignore[arg-type]  # as above
        await served.rig.write(2)
        await served.rig.store_upto(1)
        served.context.known_apps.add(served.rig.app)
        away.away = True
        async with served.get("tail=true&since=9999d", **SSE) as response:
            events = Events(response)
            notice = await events.next()
            assert notice is not None
            assert notice.type == "notice"
            await stop(served.rig, served.context)
            assert await events.next() is None
            assert events.stream.retry == 200


class Counting(Away):
    """The real store, and how often it was asked what."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return super().__getattr__(name)


async def test_tails_that_come_back_to_another_server_ask_the_store_nothing(store: Store) -> None:
    """As after a server was killed: what the window has, nobody looks for in history."""
    counting = Counting(store)
    async with serving(counting) as served, AsyncExitStack() as stack:  # type: ignore[arg-type]  # as above
        await served.rig.write(1)
        await stack.enter_async_context(served.rig.router.watch(served.rig.app))
        await served.rig.write(2)
        await served.rig.window_is_full()
        await served.rig.store_upto(2)
        counting.asked.clear()
        seen = Cursor(served.rig.bus.epoch, 0, 0, 0)
        async with served.get(f"tail=true&after={seen}", **NDJSON) as answer:
            lines = Lines(answer)
            assert [(await lines.object())["message"] for _ in range(2)] == served.all()[1:]
        assert not counting.asked


async def test_tails_that_change_servers_ask_little_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come to one that has read nothing of their app, and the store has got on meanwhile."""
    counting = Counting(store)
    async with serving(counting) as served, AsyncExitStack() as stack:  # type: ignore[arg-type]  # as above
        for _ in range(3):
            await served.rig.write(1)
        await served.rig.store_upto(2)
        served.context.known_apps.add(served.rig.app)
        counting.asked.clear()
        asked = Counter[str]()
        for name in ("bounds", "read", "watermark"):
            monkeypatch.setattr(served.rig.bus, name, counted(getattr(served.rig.bus, name), asked))
        seen = Cursor(served.rig.bus.epoch, 0, 0, 0)
        tails = [stack.enter_async_context(served.get(f"tail=true&after={seen}", **NDJSON)) for _ in range(20)]
        for answer in await asyncio.gather(*tails):
            lines = Lines(answer)
            assert [(await lines.object())["message"] for _ in range(2)] == served.all()[1:]
        assert not counting.asked
        assert asked["read"] <= 2
        assert asked["watermark"] <= 4


def counted(work: Callable[..., Awaitable[Any]], calls: Counter[str]) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any) -> Any:
        calls[work.__name__] += 1
        return await work(*arguments)

    return call


async def test_tails_that_come_together_ask_once_whether_there_is_their_app(store: Store) -> None:
    counting = Counting(store)
    async with serving(counting) as served, AsyncExitStack() as stack:  # type: ignore[arg-type]  # as above
        await served.rig.write(1)
        await served.rig.store_upto(1)
        counting.asked.clear()
        tails = [stack.enter_async_context(served.get("tail=true&num=0", **NDJSON)) for _ in range(20)]
        assert {answer.status for answer in await asyncio.gather(*tails)} == {200}
        assert counting.asked["exists"] == 1


class Breaking(Away):
    """The real store, away after one page."""

    async def after(self, *asked: Any) -> Any:
        if self.away:
            raise StoreAway("the store can't be reached")
        page = await self._store.after(*asked)
        self.away = True
        return page


async def test_an_answer_that_has_begun_is_cut_where_the_store_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an end nor a second head stands in it, so a client sees that it is not complete."""
    monkeypatch.setattr("logsvc.timeline.Timeline.read.__defaults__", (None, 2))  # lines a step
    for headers in (SSE, NDJSON, {"Accept": "text/plain"}):
        breaking = Breaking(store)
        async with serving(breaking) as served:  # type: ignore[arg-type]  # as above
            for _ in range(6):
                await served.rig.write(2)
            await served.rig.store_upto(6)
            async with served.get("since=9999d", **headers) as response:
                assert response.status == 200
                begun = await response.content.readany()
                assert b"m0" in begun
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            async with served.get("", **headers) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
                await problem_of(response)
            breaking.away = False
            async with served.client.ws_connect(f"{served.logs}?since=9999d") as socket:
                assert "lines" in await socket.receive_json(timeout=DEADLINE)
                await socket.receive(timeout=DEADLINE)
                assert socket.close_code == 1013


class Refusing:
    """The real store, which refuses what it is asked after some pages."""

    def __init__(self, store: Store, pages: float) -> None:
        self._store, self.pages = store, pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def after(self, *asked: Any) -> Any:
        if self.pages <= 0:
            raise TooCostly("the query takes too long")
        self.pages -= 1
        return await self._store.after(*asked)


async def test_a_tail_that_can_not_go_on_says_so_and_goes_on_at_its_cursor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WebSocket by its close code, an event stream by being cut: neither loses or doubles a line."""
    monkeypatch.setattr("logsvc.timeline.Timeline.read.__defaults__", (None, 2))  # lines a step
    refusing = Refusing(store, 1)
    async with serving(refusing) as served:  # type: ignore[arg-type]  # it is a store by delegation
        for _ in range(6):
            await served.rig.write(2)
        await served.rig.store_upto(6)
        async with served.client.ws_connect(f"{served.logs}?tail=true&since=9999d") as socket:
            begun = await socket.receive_json(timeout=DEADLINE)
            closing = await socket.receive(timeout=DEADLINE)
            assert (socket.close_code, closing.extra) == (1013, "come back with your cursor")
        await until(lambda: served.context.tails == 0)
        refusing.pages = 1
        async with served.get("tail=true&since=9999d", **SSE) as response:
            events = Events(response)
            assert await events.lines(2) == begun["lines"]
            with pytest.raises(aiohttp.ClientPayloadError):
                await events.next()
        assert events.stream.last_event_id == begun["cursor"]
        refusing.pages = math.inf
        await served.rig.write(1)
        async with served.client.ws_connect(f"{served.logs}?tail=true&after={begun['cursor']}") as socket:
            rest = await lines_of(socket, 11)
        assert [line["message"] for line in [*begun["lines"], *rest]] == served.all()


async def test_a_tail_that_goes_through_much_leaves_others_their_turns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is at hand and nothing passes the filter, so nothing but a rule makes the reader wait."""
    monkeypatch.setattr("logsvc.legs.STEP_BYTES", 1)
    async with serving(store) as served:
        for _ in range(200):
            await served.rig.write(1)
        async with served.rig.router.watch(served.rig.app):
            await served.rig.window_is_full()
            asked = MultiDict(tail="true", since="9999d", grep="never")
            query = read_query(asked, last_event_id=None, now=time.time_ns())
            delivery = Delivery(served.rig.timeline, served.context, query, NewlineDelimitedJson())
            await delivery.open()
            turns = 0

            async def take_turns() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            others = asyncio.create_task(take_turns())
            async for frame in delivery.frames():
                if frame.at.offset == 200:
                    break
            others.cancel()
            await delivery.close()
        assert turns > 100
