"""Drains of waived order: several frames under way, none of which waits for another, and each line all the same."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from logsvc.drains.delivery import LANES
from logsvc.drains.model import State
from logsvc.store.protocol import Store
from tests.drains.desk import Desk, desk
from tests.support import until
from tests.support.receiver import Behaviour, Receiver, answer, cut, hang


def frames(receiver: Receiver) -> set[str]:
    """Ids of all that came."""
    return {frame.id for frame in receiver.all}


async def write_frames(working: Desk, receiver: Receiver, count: int) -> None:
    """Write until so many more frames have come: one after the other, so that each is a frame of its own."""
    wanted = len(frames(receiver)) + count
    while len(frames(receiver)) < wanted:
        before = len(frames(receiver))
        await working.write(5)
        await until(lambda before=before: len(frames(receiver)) > before)


async def test_a_frame_that_is_not_answered_holds_up_no_other(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.add(receiver.url, ordered=False)
        receiver.script = [hang]
        await write_frames(working, receiver, 20)
        await working.has_all(receiver, ordered=False)
        assert receiver.verdict.repeated == 0


@pytest.mark.parametrize(("ordered", "most"), [(True, 1), (False, LANES)])
async def test_no_more_are_under_way_than_there_are_lanes(
    store: Store, tmp_path: Path, *, ordered: bool, most: int
) -> None:
    async with desk(store, tmp_path) as working, Receiver(hang).listening() as receiver:
        drain = await working.add(receiver.url, ordered=ordered)
        await write_frames(working, receiver, most)
        await working.write(5)
        # Another drain of the app shows that there was time for one more.
        other = await working.add(f"{receiver.url}/other")
        await working.write(5)
        await until(lambda: any(frame.path == "/other" for frame in receiver.all))
        assert len({frame.id for frame in receiver.all if frame.path == "/"}) == most
        assert other.token != drain.token


@pytest.mark.parametrize("ordered", [False, True])
async def test_after_a_crash_exactly_the_unsettled_frames_come_again(
    store: Store, tmp_path: Path, *, ordered: bool
) -> None:
    """Also where the drain was put back in order meanwhile: then one after the other, before anything new."""
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url, ordered=False)
        await write_frames(working, receiver, 3)
        receiver.script = [hang, answer(), hang, hang]
        await write_frames(working, receiver, 4)
        taken, hung = receiver.all[-3].id, [receiver.all[place].id for place in (-4, -2, -1)]
        await working.stop()
        seen = len(receiver.all)
        await working.change(replace(drain, ordered=ordered))
        await working.write(5)
        working.start()
        await working.has_all(receiver, ordered=ordered)
        again = [frame.id for frame in receiver.all[seen:]]
        assert taken not in again
        assert again[:3] == hung if ordered else set(again[:4]) >= set(hung)
        assert receiver.verdict.repeated == 3


async def test_one_that_fails_is_reported_while_others_are_taken(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url, ordered=False)
        bad = ""

        def behave(request: web.Request) -> web.Response:
            return web.Response(status=503 if request.headers["Logplex-Frame-Id"] == bad else 204)

        def remember(request: web.Request) -> web.Response:
            nonlocal bad
            bad = request.headers["Logplex-Frame-Id"]
            return web.Response(status=503)

        receiver.behave, receiver.script = behave, [remember]
        await write_frames(working, receiver, 10)
        await until(working.told)
        status = await working.status(drain)
        assert status is not None
        assert (status.state, status.error) == (State.RETRYING, "The receiver answers 503 Service Unavailable.")
        receiver.behave = answer()
        await working.has_all(receiver, ordered=False)

        async def over() -> bool:
            return (await working.told())[-1].endswith(b"the receiver takes lines again")

        await until(over)


async def later(request: web.Request) -> web.Response:
    """Takes a frame, after others that came later."""
    # A slow receiver: nobody waits for anything here.
    await asyncio.sleep(random.random() / 50)
    return await cut(request) if random.random() < 0.3 else web.Response(status=204)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_receivers_do_and_engines_die_of_each_line_comes_and_frames_are_the_same(
    store: Store, tmp_path: Path, seed: int, *, ordered: bool
) -> None:
    """`Verdict` compares frames of the same id; lines that come twice in others are doubled."""
    rng = random.Random(seed)
    behaviours: list[Behaviour] = [answer(), answer(500), answer(429), cut, hang, later]
    async with (
        desk(store, tmp_path, batch_bytes=4096, request_timeout=0.5) as working,
        Receiver().listening() as receiver,
    ):
        await working.add(receiver.url, ordered=ordered)
        for _ in range(10):
            receiver.script = rng.choices(behaviours, k=rng.randrange(8))
            await working.write(rng.randrange(1, 20), chunks=rng.randrange(1, 5), size=200)
            if rng.random() < 0.4:
                seen = len(receiver.all)
                await until(lambda seen=seen: len(receiver.all) > seen or not receiver.script)
                await working.stop()
                working.start()
        await working.has_all(receiver, ordered=ordered)
