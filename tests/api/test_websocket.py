"""A WebSocket's client changes its filter and pauses: no line is lost, doubled or out of order."""

import asyncio
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from logsvc.api.websocket import _Follower
from tests.api.served import Served
from tests.api.test_sessions import opened
from tests.support.wait import DEADLINE, until


@pytest.fixture
async def served(served: Served) -> Served:
    await served.rig.write(1)
    return served


async def said(socket: aiohttp.ClientWebSocketResponse, name: str) -> Any:
    """The next message, which has this name."""
    message = await socket.receive_json(timeout=DEADLINE)
    assert name in message, message
    return message[name]


async def messages(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += [line["message"] for line in await said(socket, "lines")]
    return found


async def test_the_filter_changes_at_the_very_next_line(served: Served) -> None:
    async with served.client.ws_connect(f"{served.logs}?tail=1&num=0&process=web") as socket:
        await served.rig.write(2)
        assert await messages(socket, 2) == served.all()[-2:]
        await socket.send_json({"filter": {"process": ["worker"]}})
        await said(socket, "changed")
        await served.rig.write(2)
        await served.rig.write(1, process="worker")
        assert await messages(socket, 1) == served.all()[-1:]
        await socket.send_json({"filter": {}})
        await said(socket, "changed")
        await served.rig.write(2)
        assert await messages(socket, 2) == served.all()[-2:]


async def test_a_pause_holds_lines_back_and_loses_none(served: Served) -> None:
    async with served.client.ws_connect(f"{served.logs}?tail=1&num=0") as socket:
        await served.rig.write(3)
        assert await messages(socket, 3) == served.all()[-3:]
        for _ in range(3):
            await socket.send_json({"pause": True})
            await said(socket, "paused")
            await served.rig.write(4)
            await socket.send_json({"filter": {"process": "worker"}})
            await socket.send_json({"filter": {}})
            await socket.send_json({"pause": False})
            await said(socket, "changed")
            assert await messages(socket, 4) == served.all()[-4:]
    await until(lambda: served.context.tails == 0)


async def test_changes_under_load_lose_and_double_nothing(served: Served) -> None:
    async with served.client.ws_connect(f"{served.logs}?tail=1&num=0") as socket:

        async def write() -> None:
            for _ in range(60):
                await served.rig.write(5)

        async def change() -> None:
            for number in range(30):
                await socket.send_json([{"pause": True}, {"filter": {}}, {"pause": False}][number % 3])
                await asyncio.sleep(0)

        got: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(change())
            while len(got) < 300:
                message = await socket.receive_json(timeout=DEADLINE)
                got += [line["message"] for line in message.get("lines", ())]
        assert got == served.all()[1:]


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        "[]",
        "{}",
        "7",
        '{"stop":true}',
        '{"pause":"yes"}',
        '{"filter":[]}',
        '{"filter":{"tail":"1"}}',
        '{"filter":{"until":"1m"}}',
        '{"filter":{"grep_re":"("}}',
        '{"filter":{"process":"a b"}}',
        '{"filter":{"process":{"a":1}}}',
        '{"filter":{"grep":""}}',
    ],
)
async def test_what_means_nothing_is_told_and_changes_nothing(served: Served, message: str) -> None:
    async with served.client.ws_connect(f"{served.logs}?tail=1&num=0") as socket:
        await socket.send_str(message)
        assert (await said(socket, "problem"))["status"] == 400
        await socket.send_bytes(b"\xff")
        assert (await said(socket, "problem"))["status"] == 400
        await served.rig.write(1)
        assert await messages(socket, 1) == ["m1"]


async def test_a_flood_of_messages_leaves_others_their_turns(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may have come before the first is looked at; each is told off, and others are served in between."""
    turns: list[int] = []
    told = 0
    obey = _Follower._obey

    def counting(follower: _Follower, message: aiohttp.WSMessage) -> None:
        nonlocal told
        told += 1
        obey(follower, message)

    async def turn() -> None:
        while True:
            turns.append(told)
            await asyncio.sleep(0)

    monkeypatch.setattr(_Follower, "_obey", counting)
    async with served.client.ws_connect(f"{served.logs}?tail=1&num=0") as socket, asyncio.TaskGroup() as tasks:
        for _ in range(3000):
            await socket.send_str("{}")
        turning = tasks.create_task(turn())
        for _ in range(3000):
            await said(socket, "problem")
        turning.cancel()
    assert max(after - before for before, after in pairwise(turns)) <= 1


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\xfe\x40\x01" + bytes(4) + b"x" * 0x4001, aiohttp.WSCloseCode.MESSAGE_TOO_BIG),
        (b"\x81\xff" + b"\x7f" * 8 + bytes(4), aiohttp.WSCloseCode.MESSAGE_TOO_BIG),
        (b"\xf1\x80" + bytes(4), aiohttp.WSCloseCode.PROTOCOL_ERROR),
        (b"\x83\x80" + bytes(4), aiohttp.WSCloseCode.PROTOCOL_ERROR),
        (b"\x89\xfe\x00\x7e" + bytes(4) + b"x" * 126, aiohttp.WSCloseCode.PROTOCOL_ERROR),
        (b"\x81\x81" + bytes(4) + b"\xff", aiohttp.WSCloseCode.INVALID_TEXT),
    ],
    ids=["too big", "far too big", "reserved bits", "unknown opcode", "long ping", "no UTF-8"],
)
async def test_frames_that_no_client_sends_close_it_and_disturb_nobody(
    served: Served, frame: bytes, code: aiohttp.WSCloseCode
) -> None:
    async with (
        served.client.ws_connect(f"{served.logs}?tail=1&num=0") as other,
        served.client.ws_connect(f"{served.logs}?tail=1&num=0") as socket,
    ):
        transport = socket._response.connection.transport  # type: ignore[union-attr]  # beneath the client's own framing
        assert transport is not None
        transport.write(frame)
        assert (await socket.receive(timeout=DEADLINE)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == code
        await served.rig.write(1)
        assert await messages(other, 1) == served.all()[-1:]
    await until(lambda: served.context.tails == 0)


async def test_who_does_not_answer_a_ping_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.api.websocket.HEARTBEAT", 0.2)
    url = f"{served.logs}?tail=1&num=0"
    async with served.client.ws_connect(url) as other, served.client.ws_connect(url, autoping=False) as socket:
        listening = asyncio.create_task(messages(other, 1))  # only who listens answers
        assert (await socket.receive(timeout=DEADLINE)).type is aiohttp.WSMsgType.PING
        await until(lambda: served.context.tails == 1)
        await served.rig.write(1)
        assert await listening == served.all()[-1:]


async def test_deflate_is_not_agreed_to(served: Served) -> None:
    async with served.client.ws_connect(f"{served.logs}?tail=1", compress=15) as socket:
        assert not socket.compress
        assert await messages(socket, 1) == served.all()


async def test_the_lines_of_a_session_stay_those_it_was_opened_for(served: Served) -> None:
    address = await opened(served, dyno="web", tail=True)
    async with served.client.ws_connect(address) as socket:
        await messages(socket, 1)
        await socket.send_json({"filter": {}})
        assert (await said(socket, "problem"))["status"] == 403
