"""The router reads what is watched, and only that; nobody's pace but its own holds it up."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from logsvc.bus.local import LocalSettings
from logsvc.errors import OutOfRange
from logsvc.model import EVERYTHING
from logsvc.selection import Matcher
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from logsvc.window import Feed
from tests.support.reference import known
from tests.support.tiers import Rig, rig
from tests.support.wait import DEADLINE, until

ALL = Matcher(EVERYTHING)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store")))
    yield store
    asyncio.run(store.close())


async def test_a_partition_is_read_from_the_watermark_while_somebody_watches(store: Store) -> None:
    async with rig(store) as made:
        for _ in range(4):
            await made.write(1)
        await made.store_upto(3)
        assert made.router.watched == 0
        async with made.router.watch(made.app) as feed:
            await made.window_is_full()
            assert made.router.window(0).first == 3  # type: ignore[union-attr]  # it is watched
            assert len(feed) == 1
            await made.write(1)
            await made.window_is_full()
            assert len(feed) == 2
            assert made.router.window_bytes > 0
        await until(lambda: made.router.watched == 0, what="it is read for nobody")
        assert made.router.window_bytes == 0


async def test_who_comes_back_soon_finds_the_window_as_it_was(store: Store) -> None:
    async with rig(store, linger=60.0) as made:
        await made.write(1)
        async with made.router.watch(made.app), made.router.watch(made.neighbour):
            await made.window_is_full()
            window = made.router.window(0)
        async with made.router.watch(made.app) as feed:
            assert made.router.window(0) is window
            assert len(feed) == 1
            await made.write(1)
            await made.window_is_full()


async def test_watchers_who_come_together_share_a_window(store: Store) -> None:
    async with rig(store) as made:
        await made.write(1)
        both = asyncio.Barrier(2)

        async def watch() -> Feed:
            async with made.router.watch(made.app) as feed:
                await both.wait()
                return feed

        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(watch()) for _ in range(2)]
        assert watching[0].result() is watching[1].result()
        await until(lambda: made.router.watched == 0)


async def test_a_window_begins_where_the_first_watcher_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before the watermark, and not further back: that is history."""
    monkeypatch.setattr("logsvc.router.BEFORE", 2)
    monkeypatch.setattr("logsvc.router.SPREAD", 0)
    async with rig(store) as made:
        for _ in range(5):
            await made.write(1)
        await made.store_upto(4)
        for at, first in ((1, 4), (2, 2), (3, 3), (4, 4), (5, 4)):
            async with made.router.watch(made.app, at):
                window = made.router.window(0)
                assert window is not None
                assert window.first == first
                await made.window_is_full()
            await until(lambda: made.router.watched == 0)


async def test_those_who_come_with_it_may_be_a_little_less_far(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.router.BEFORE", 3)
    monkeypatch.setattr("logsvc.router.SPREAD", 1)
    async with rig(store) as made:
        for _ in range(5):
            await made.write(1)
        await made.store_upto(4)
        for at, first in ((1, 1), (2, 1), (3, 2), (4, 3), (5, 3)):
            async with made.router.watch(made.app, at):
                window = made.router.window(0)
                assert window is not None
                assert window.first == first
            await until(lambda: made.router.watched == 0)


async def test_it_does_so_where_the_store_is_far_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then new watchers begin at the end, but one that was there a moment ago goes on."""
    monkeypatch.setattr("logsvc.router.BEFORE", 2)
    monkeypatch.setattr("logsvc.router.SPREAD", 0)
    async with rig(store, cold_lag=-1.0) as made:
        for _ in range(5):
            await made.write(1)
        for at, first in ((None, 5), (2, 5), (3, 3), (5, 5)):
            async with made.router.watch(made.app, at):
                window = made.router.window(0)
                assert window is not None
                assert window.first == first
            await until(lambda: made.router.watched == 0)


async def test_memory_is_bounded_and_who_falls_behind_reads_the_bus(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.legs.STEP_BYTES", 5000)
    async with rig(store, window_bytes=20_000) as made, made.router.watch(made.app):
        at, found = made.timeline.start, []
        for _ in range(100):
            await made.write(2, text="x" * 500)
        await made.window_is_full()
        assert 0 < made.router.window_bytes <= 20_000
        tiers = set()
        while at < await made.timeline.end():
            step = await made.timeline.read(at, ALL)
            tiers.add(step.tier)
            at = step.at
            found += [line for selection in step.selections for line in known(selection)]
        assert found == made.lines
        assert tiers == {"bus", "window"}


async def test_a_chunk_larger_than_all_memory_goes_through(store: Store) -> None:
    async with rig(store, window_bytes=1000) as made, made.router.watch(made.app) as feed:
        await made.write(1, text="x" * 5000)
        await made.window_is_full()
        await until(lambda: made.router.window_bytes == 0)
        assert len(feed) == 0
        assert len((await made.timeline.read(made.timeline.start, ALL)).selections) == 1


async def test_a_flood_costs_its_own_window_first(store: Store) -> None:
    async with rig(store, window_bytes=50_000) as made, made.router.watch(made.app) as feed:
        await made.write(1)
        async with made.router.watch(made.neighbour):
            for _ in range(60):
                await made.write(1, app=made.neighbour, text="x" * 1000)
            await made.window_is_full()
        assert made.router.window_bytes <= 50_000
        assert len(feed) in {0, 1}


async def test_where_the_store_is_far_behind_reading_starts_at_the_end(store: Store) -> None:
    now = time.time() + 100
    async with rig(store, cold_lag=50.0, now=lambda: now) as made:
        assert not await made.timeline.cold()
        await made.write(2)
        await made.store_upto(1)
        async with made.router.watch(made.app):
            assert made.router.window(0).first == 1  # type: ignore[union-attr]  # it is watched
            assert not await made.timeline.cold(), "all there is is stored"
        await until(lambda: made.router.watched == 0)
        await made.write(2)
        async with made.router.watch(made.app):
            assert made.router.window(0).first == 2  # type: ignore[union-attr]  # as above
            assert await made.timeline.cold()
            await made.write(1)
            await made.window_is_full()
            assert await made.timeline.cold(), "also for who comes later"
            await made.store_upto(2)
            assert not await made.timeline.cold()


async def test_everybody_is_woken_now_and_then(store: Store) -> None:
    async with rig(store, heartbeat=0.01) as made, made.router.watch(made.app) as feed:
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                await feed.changed()


async def test_silence_lasts_little_longer_than_the_period(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail that is just not due at one look is at the next, and that comes within a third of the period."""
    sleeping, slept = asyncio.sleep, []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleeping(seconds)

    monkeypatch.setattr("logsvc.router.asyncio.sleep", sleep)
    async with rig(store, heartbeat=0.03) as made, made.router.watch(made.app) as feed, asyncio.timeout(DEADLINE):
        await feed.changed()
    assert max(slept) == pytest.approx(0.01)


SMALL = LocalSettings(segment_bytes=4096, recent_bytes=4096, hold_back=0.0, sync_interval=0.001)


async def overtaken(made: Rig) -> None:
    """Write, store and delete more than a router that stands still has read."""
    while (await made.bus.bounds(0)).start == 0:
        await made.write(4, text="y" * 500)
        await made.store_upto(await made.end())


async def test_a_router_that_was_left_behind_goes_on_where_the_bus_begins(store: Store) -> None:
    """Its window begins again; who reads goes through the store and misses nothing."""
    async with rig(store, settings=SMALL) as made:
        made.running.cancel()
        await asyncio.wait([made.running])
        async with made.router.watch(made.app):
            await overtaken(made)
            running = asyncio.create_task(made.router.run())
            await made.write(1)
            await made.window_is_full()
            window = made.router.window(0)
            assert window is not None
            assert window.first > 0
            at, found = made.timeline.start, []
            while at < await made.timeline.end():
                step = await made.timeline.read(at, ALL)
                at = step.at
                found += [line for selection in step.selections for line in known(selection)]
            assert found == made.lines
            running.cancel()
            await asyncio.wait([running])


async def test_what_is_no_longer_watched_is_no_error_when_it_goes(store: Store) -> None:
    async with rig(store, settings=SMALL) as made:
        made.running.cancel()
        await asyncio.wait([made.running])
        async with made.router.watch(made.app):
            await overtaken(made)
            made.router._live.watch(0, 0)
            fetching = asyncio.create_task(made.router._fetch())
            window = made.router._windows.pop(0)
            assert await fetching == []
            made.router._windows[0] = window


async def test_a_bus_that_lost_its_end_stops_the_router(store: Store) -> None:
    async with rig(store) as made, made.router.watch(made.app):
        made.router._live.watch(0, 99)
        with pytest.raises(ExceptionGroup) as raised:
            await made.running
        assert raised.group_contains(OutOfRange)
