"""What every place that keeps drains promises. A test class of each inherits `DrainsContract` and opens it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pytest

from logsvc.drains.model import Drain, DrainStatus, Frame, Lost, Position, State, frame_id
from logsvc.drains.registry import Positions, Registry, ShareLost
from logsvc.model import AppId, Cursor, Filter
from tests.support.wait import DEADLINE, until


class Kept(NamedTuple):
    """What one process has open."""

    registry: Registry
    positions: Positions


Opener = Callable[[], AbstractAsyncContextManager[Kept]]

START = Cursor(1, 2, 3, -1)
WANTED = Filter(process=frozenset({"web"}), grep=("error",), not_stream=frozenset({"stdout"}), ignore_case=True)


def drain(app: str = "app", url: str = "https://u:p@logs.example.com/x", **others: object) -> Drain:
    return replace(Drain.new(AppId("acme", app), url, START, 1_795_000_000), **others)  # type: ignore[arg-type] # as given


def adding(new: Drain) -> Callable[[Mapping[str, Drain]], Drain | None]:
    return lambda drains: None if any(each.url == new.url for each in drains.values()) else new


def position(number: int) -> Position:
    places = [Cursor(1, 2, number + each, -1) for each in range(number % 3 + 1)]
    lost = Lost(7, 1_795_000_000)
    frames = tuple(Frame(*each, frame_id("x", *each), lost) for each in pairwise(places))
    return Position(places[-1], frames, Lost(number, 5))


class DrainsContract:
    """Inherit, and give a fixture `opener`: each call opens the same place, empty at first, again."""

    @pytest.fixture
    async def kept(self, opener: Opener) -> AsyncIterator[Kept]:
        async with opener() as kept:
            yield kept

    # ---- the registry

    async def test_at_first_there_is_none(self, kept: Kept):
        assert dict(kept.registry.drains) == {}
        assert not await kept.registry.remove("no-such-drain")
        assert await kept.registry.statuses([drain()]) == {}

    async def test_a_drain_is_there_on_return_and_after_a_restart(self, opener: Opener):
        made = drain(filter=WANTED, paused=True, plan="pro", ordered=False)
        async with opener() as kept:
            assert await kept.registry.change(adding(made)) == made
            assert kept.registry.drains == {made.id: made}
        async with opener() as kept:
            assert kept.registry.drains == {made.id: made}

    async def test_a_change_replaces_and_a_removal_takes_away(self, opener: Opener):
        made, other = drain(), drain("other", "https://other.example.com")
        async with opener() as kept:
            for each in (made, other):
                await kept.registry.change(adding(each))
            paused = replace(made, paused=True)
            assert await kept.registry.change(lambda _: paused) == paused
            assert kept.registry.drains == {made.id: paused, other.id: other}
            assert await kept.registry.remove(made.id)
            assert not await kept.registry.remove(made.id)
            assert kept.registry.drains == {other.id: other}
        async with opener() as kept:
            assert kept.registry.drains == {other.id: other}

    async def test_what_decides_may_refuse_or_let_it_be(self, kept: Kept):
        def refuse(_: Mapping[str, Drain]) -> Drain | None:
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            await kept.registry.change(refuse)
        assert await kept.registry.change(lambda _: None) is None
        assert dict(kept.registry.drains) == {}

    async def test_of_many_at_once_each_sees_those_before_it(self, kept: Kept):
        made = [drain(url=f"https://host-{number % 5}.example.com") for number in range(20)]
        changed = await asyncio.gather(*(kept.registry.change(adding(each)) for each in made))
        assert len([each for each in changed if each is not None]) == 5
        assert len(kept.registry.drains) == 5

    async def test_who_follows_hears_of_every_change(self, kept: Kept):
        seen = kept.registry.drains
        following = asyncio.create_task(kept.registry.changed(seen))
        made = drain()
        await kept.registry.change(adding(made))
        async with asyncio.timeout(DEADLINE):
            heard = await following
            assert heard == {made.id: made}
            assert await kept.registry.changed(seen) == heard  # and who comes late hears of it at once
        assert seen == {}

    async def test_refreshed_has_what_was_changed_before(self, opener: Opener):
        made = drain()
        async with opener() as kept:
            await kept.registry.change(adding(made))
            assert await kept.registry.refreshed() == {made.id: made}
            await kept.registry.remove(made.id)
            assert await kept.registry.refreshed() == {}

    async def test_a_drain_that_stays_is_the_same_object(self, kept: Kept):
        made = drain()
        await kept.registry.change(adding(made))
        before = kept.registry.drains[made.id]
        await kept.registry.change(adding(drain(url="https://another.example.com")))
        assert kept.registry.drains[made.id] is before

    # ---- positions

    async def test_a_position_survives_a_restart(self, opener: Opener):
        made = drain()
        async with opener() as kept:
            share = made.app_id.partition(kept.positions.shares)
            async with kept.positions.hold(share) as held:
                assert held.number == share
                assert held.position(made.id) is None
                for number in range(50):
                    await held.save(made.id, position(number))
                assert held.position(made.id) == position(49)
        async with opener() as kept, kept.positions.hold(share) as held:
            assert held.position(made.id) == position(49)

    async def test_saves_made_together_keep_their_order(self, kept: Kept):
        made = [drain(f"app-{number}") for number in range(10)]
        async with kept.positions.hold(0) as held:
            await asyncio.gather(*(held.save(each.id, position(number)) for number in range(50) for each in made))
        async with kept.positions.hold(0) as held:
            assert [held.position(each.id) for each in made] == [position(49)] * 10

    async def test_what_is_forgotten_is_gone(self, opener: Opener):
        made = drain()
        async with opener() as kept:
            share = made.app_id.partition(kept.positions.shares)
            async with kept.positions.hold(share) as held:
                await held.save(made.id, position(1))
                await held.report(made.id, DrainStatus(State.DELIVERING, 1.0))
                await held.forget(made.id)
                assert held.position(made.id) is None
            assert await kept.registry.statuses([made]) == {}
        async with opener() as kept, kept.positions.hold(share) as held:
            assert held.position(made.id) is None

    async def test_a_share_says_of_whom_something_is_kept(self, opener: Opener):
        made = [drain(f"app-{number}") for number in range(3)]
        async with opener() as kept, kept.positions.hold(0) as held:
            assert held.kept == frozenset()
            await held.save(made[0].id, position(1))
            await held.report(made[1].id, DrainStatus(State.DELIVERING, 1.0))
            await held.save(made[2].id, position(2))
            await held.forget(made[2].id)
        async with opener() as kept, kept.positions.hold(0) as held:
            assert held.kept == {made[0].id, made[1].id}

    async def test_a_status_is_what_was_said_last(self, kept: Kept):
        made, silent = drain(), drain("silent")
        share = made.app_id.partition(kept.positions.shares)
        async with kept.positions.hold(share) as held:
            for number in range(3):
                status = DrainStatus(
                    State.RETRYING, float(number), 5, 1.5, 100, 2.5, "503 Service Unavailable", 1.0, 2.0
                )
                await held.report(made.id, status)
                assert await kept.registry.statuses([made, silent]) == {made.id: status}

    async def test_who_lost_a_share_can_save_no_more(self, kept: Kept):
        made = drain()
        async with kept.positions.hold(0) as first:
            await first.save(made.id, position(1))
            async with kept.positions.hold(0) as second:
                assert second.position(made.id) == position(1)
                await second.save(made.id, position(2))
                for late in (first.save(made.id, position(3)), first.forget(made.id)):
                    with pytest.raises(ShareLost):
                        await late
                await second.save(made.id, position(4))
                with pytest.raises(ShareLost):
                    await first.save(made.id, position(5))
        async with kept.positions.hold(0) as third:
            assert third.position(made.id) == position(4)

    async def test_one_process_gets_all_shares(self, kept: Kept):
        await until(lambda: kept.positions.assigned == frozenset(range(kept.positions.shares)), what="all shares")
