"""A timeline is one log, wherever its lines lie: in the store, on the bus, in the window, or in all three.

Every test asks the real tiers and holds the answer against the list of what was written.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logsvc.bus.local import LocalSettings
from logsvc.bus.protocol import Fetched
from logsvc.errors import BadCursor, OutOfRange, StoreAway
from logsvc.legs import LAST_BYTES, between
from logsvc.model import EVERYTHING, Cursor, Filter
from logsvc.selection import Matcher
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Bucket, Store
from logsvc.store.writer import StoreLoop
from logsvc.timeline import Tiers, Timeline, before
from tests.support import until
from tests.support.reference import Known, known, passes
from tests.support.store import Away
from tests.support.tiers import FIRST, Rig, rig

SLOW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ALL = Matcher(EVERYTHING)
SMALL = LocalSettings(segment_bytes=4096, recent_bytes=4096, hold_back=0.0, sync_interval=0.001)
"""A bus whose segments go as soon as they are stored."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all tests here: a process holds one engine, and each test has a tenant of its own."""
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store"), {0: 7}))
    yield store
    asyncio.run(store.close())


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what is stored from the store: all that tests write is so little that it would be read from the bus."""
    monkeypatch.setattr("logsvc.legs.NEAR", 0)


@dataclass(frozen=True)
class Arrangement:
    """Where lines lie."""

    chunks: list[tuple[int, str | None]]
    """Lines of each chunk and its process; no process means one of the neighbour's."""
    fences: frozenset[int]
    watched_at: int | None
    """How many chunks there are when somebody begins to watch."""
    stored_first: int
    """How many per cent of them are stored then."""
    stored_last: int
    """How many per cent of all are stored in the end."""
    evicted: int
    """How many chunks the window has lost for room."""
    near: int
    """Up to how many records behind the watermark the bus is read rather than the store."""


arrangements = st.builds(
    Arrangement,
    chunks=st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["web", "worker", "web", None])), min_size=1, max_size=9
    ),
    fences=st.frozensets(st.integers(0, 9), max_size=2),
    watched_at=st.none() | st.integers(0, 9),
    stored_first=st.integers(0, 100),
    stored_last=st.integers(0, 100),
    evicted=st.integers(0, 6),
    near=st.sampled_from([0, 0, 2, 1 << 16]),
)
filters = st.sampled_from(
    [
        EVERYTHING,
        Filter(process=frozenset({"worker"})),
        Filter(stream=frozenset({"stderr"})),
        Filter(grep=("1",)),
        Filter(grep_re=("[02468]$",), process=frozenset({"web"})),
        Filter(since=(FIRST + 3) * 10**9, until=(FIRST + 12) * 10**9),
        Filter(grep=("nothing has this",)),
    ]
)


@asynccontextmanager
async def arranged(store: Store, wanted: Arrangement) -> AsyncIterator[Rig]:
    async with rig(store) as made, AsyncExitStack() as watching:
        watching.enter_context(pytest.MonkeyPatch.context()).setattr("logsvc.legs.NEAR", wanted.near)
        for number, (lines, process) in enumerate(wanted.chunks):
            if number == wanted.watched_at:
                await made.store_upto(await made.end() * wanted.stored_first // 100)
                await watching.enter_async_context(made.router.watch(made.app))
            if number in wanted.fences:
                await made.bus.fence(0)
            await made.write(lines, process or "web", None if process else made.neighbour)
        if made.router.window(0) is not None:
            await made.window_is_full()
        window = made.router.window(0)
        for _ in range(wanted.evicted):
            if window is not None and len(window):
                window.drop_oldest()
        await made.store_upto(max(await made.bus.watermark(0), await made.end() * wanted.stored_last // 100))
        yield made


def places(made: Rig) -> st.SearchStrategy[Cursor]:
    """Any place that a cursor can name: of a line, in front of a chunk, behind everything."""
    named = [line.cursor for line in made.lines]
    fronts = [Cursor(made.bus.epoch, 0, offset, -1) for offset in range(made.bus.journal.next[0] + 1)]
    return st.sampled_from([*named, *fronts])


async def forward(timeline: Timeline, at: Cursor, matcher: Matcher, end: Cursor | None, lines: int) -> list[Known]:
    """Everything behind `at`, step by step."""
    found: list[Known] = []
    while end is None or at < end:
        step = await timeline.read(at, matcher, end, lines)
        assert step.lost is None
        found += [line for selection in step.selections for line in known(selection)]
        if step.at == at:
            break
        assert step.at > at, "a step back"
        at = step.at
    return found


@SLOW
@given(arrangements, filters, st.data())
async def test_reading_on_from_any_cursor_gives_exactly_the_rest(
    store: Store, wanted: Arrangement, chosen: Filter, data: st.DataObject
) -> None:
    async with arranged(store, wanted) as made:
        for _ in range(3):
            at = data.draw(places(made))
            end = data.draw(st.none() | places(made))
            lines = data.draw(st.integers(1, 4))
            found = await forward(made.timeline, at, Matcher(chosen), end, lines)
            assert found == [
                line
                for line in made.lines
                if line.cursor > at and (end is None or line.cursor <= end) and passes(chosen, line)
            ]


@SLOW
@given(arrangements, filters, st.data())
async def test_the_last_lines_up_to_any_place_are_the_last_lines(
    store: Store, wanted: Arrangement, chosen: Filter, data: st.DataObject
) -> None:
    async with arranged(store, wanted) as made:
        for _ in range(3):
            upto = data.draw(places(made))
            count = data.draw(st.integers(1, 12))
            expected = [line for line in made.lines if line.cursor <= upto and passes(chosen, line)]
            newest, done, _ = await made.timeline.last(count, Matcher(chosen), upto)
            assert [line for selection in newest for line in known(selection)] == expected[-count:]
            assert done
            place = await made.timeline.place_of_last(count, Matcher(chosen), upto)
            behind = await forward(made.timeline, place, Matcher(chosen), upto, 100)
            assert behind == expected[-count:]
            near, missing = await made.timeline.near_last(count, 2, Matcher(chosen), upto)
            assert missing <= 2 + 2 * 5, "no more than there are in two chunks"
            assert (
                await forward(made.timeline, near, Matcher(chosen), upto, 100)
                == expected[len(expected) - count + missing :]
            )


@SLOW
@given(arrangements, filters, st.integers(1, 4))
async def test_paging_backwards_reaches_the_first_line_and_meets_each_once(
    store: Store, wanted: Arrangement, chosen: Filter, count: int
) -> None:
    async with arranged(store, wanted) as made:
        upto = await made.timeline.end()
        found: list[Known] = []
        while page := (await made.timeline.last(count, Matcher(chosen), upto)).selections:
            found[:0] = [line for selection in page for line in known(selection)]
            upto = before(page)
        assert found == [line for line in made.lines if passes(chosen, line)]


@SLOW
@given(
    arrangements,
    filters,
    st.sampled_from([1, 2, 5]),
    st.permutations(["process", "dyno", "source", "stream"]).flatmap(lambda names: st.sampled_from([names[:1], names])),
)
async def test_volume_counts_every_line_once_stored_or_not(
    store: Store, wanted: Arrangement, chosen: Filter, seconds: int, by: list[str]
) -> None:
    async with arranged(store, wanted) as made:
        step = seconds * 10**9
        expected: dict[tuple[int, tuple[str, ...]], int] = {}
        for line in made.lines:
            if passes(chosen, line):
                names = tuple(line.stream if name == "stream" else getattr(line.source, name) for name in by)
                key = (line.time // step * step, names)
                expected[key] = expected.get(key, 0) + 1
        buckets = await made.timeline.volume(chosen, step, by)
        assert buckets == [Bucket(*key, lines) for key, lines in sorted(expected.items())]


@SLOW
@given(wanted=arrangements, filtered=filters, data=st.data())
async def test_lines_between_two_places_are_counted_wherever_they_lie(
    store: Store, wanted: Arrangement, filtered: Filter, data: st.DataObject
) -> None:
    async with arranged(store, wanted) as made:
        places = [made.timeline.start, *(line.cursor for line in made.lines), await made.timeline.end()]
        first, last = sorted(data.draw(st.tuples(st.sampled_from(places), st.sampled_from(places))))
        expected = [line for line in made.lines if first < line.cursor <= last and passes(filtered, line)]
        assert await made.timeline.count(first, last, Matcher(filtered)) == len(expected)


@SLOW
@given(wanted=arrangements, data=st.data())
async def test_the_place_of_a_moment_is_found_wherever_it_lies(
    store: Store, wanted: Arrangement, data: st.DataObject
) -> None:
    async with arranged(store, wanted) as made:
        appended = {}
        async for selection in between(made.timeline, made.timeline.start, await made.timeline.end(), ALL):
            appended[selection.chunk.offset] = selection.chunk.appended
        moments = sorted(set(appended.values())) or [0]
        since = data.draw(st.sampled_from([0, *moments, moments[-1] + 1]))
        at = data.draw(st.sampled_from([made.timeline.start, *(line.cursor for line in made.lines)]))
        place = await made.timeline.appended_since(since, at)
        assert place >= at
        assert all(when < since for offset, when in appended.items() if at.offset < offset < place.offset)
        assert all(when >= since for offset, when in appended.items() if offset >= max(place.offset, at.offset + 1))


@SLOW
@given(arrangements)
async def test_an_app_exists_from_its_first_line_on(store: Store, wanted: Arrangement) -> None:
    async with arranged(store, wanted) as made:
        assert await made.timeline.exists() == bool(made.lines)


async def test_lines_of_many_bytes_are_not_held_at_once(store: Store) -> None:
    async with rig(store) as made:
        for _ in range(30):
            await made.write(2, text="x" * 120_000)
        await made.store_upto(15)
        end = await made.timeline.end()
        newest, done, _ = await made.timeline.last(60, ALL, end)
        assert not done
        assert LAST_BYTES <= sum(len(selection.value) for selection in newest) < 2 * LAST_BYTES
        held = [line for selection in newest for line in known(selection)]
        assert held == made.lines[-len(held) :]
        assert await made.timeline.place_of_last(57, ALL, end) == Cursor(made.bus.epoch, 0, 1, 0)
        assert await made.timeline.place_of_last(99, ALL, end) == Cursor(made.bus.epoch, 0, 0, -1)


@pytest.mark.parametrize("stored", range(7))
async def test_the_window_is_searched_up_to_its_nearest_lines_and_the_store_for_what_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    """What only the window has is always searched, so the place where the store takes over is a seam to none."""
    monkeypatch.setattr("logsvc.legs.NEAREST", 100)  # that is one chunk and a bit
    odd = Filter(grep_re=("[13579]$",))
    async with rig(store) as made, made.router.watch(made.app):
        for _ in range(6):
            await made.write(2)
        await made.window_is_full()
        await made.store_upto(stored)
        end = await made.timeline.end()
        for count in range(1, 8):
            newest, done, _ = await made.timeline.last(count, Matcher(odd), end)
            found = [line for selection in newest for line in known(selection)]
            assert found == [line for line in made.lines if passes(odd, line)][-count:]
            assert done


async def test_more_than_the_most_lines_are_found_in_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.timeline.LAST_LINES", 4)
    async with rig(store) as made:
        for _ in range(5):
            await made.write(3)
        await made.store_upto(3)
        end = await made.timeline.end()
        newest, done, _ = await made.timeline.last(9, ALL, end)
        assert [line for selection in newest for line in known(selection)] == made.lines[-4:]
        assert not done
        place = await made.timeline.place_of_last(9, ALL, end)
        assert await forward(made.timeline, place, ALL, end, 100) == made.lines[-9:]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"epoch": 99}, "epoch"),
        ({"partition": 1}, "another app"),
        ({"offset": 1000}, "beyond the end"),
        ({"offset": 2, "line": 0}, "beyond the end"),
    ],
)
async def test_a_cursor_that_is_no_place_here_is_refused(store: Store, wrong: dict[str, Any], reason: str) -> None:
    async with rig(store) as made:
        await made.write(2)
        await made.write(2)
        await made.timeline.check(await made.timeline.end())
        await made.timeline.check(made.timeline.start)
        with pytest.raises(BadCursor, match=reason):
            await made.timeline.check(made.lines[-1].cursor._replace(**wrong))


async def test_segments_that_go_while_one_reads_lose_nothing(store: Store) -> None:
    """What is stored leaves the bus under a reader's feet, again and again: it goes on in the store."""
    async with rig(store, settings=SMALL) as made:
        for _ in range(60):
            await made.write(4, text="y" * 200)
        at, found = made.timeline.start, []
        for stored in range(0, 61, 4):
            step = await made.timeline.read(at, ALL, lines=3)
            found += [line for selection in step.selections for line in known(selection)]
            at = step.at
            await made.store_upto(max(stored, await made.bus.watermark(0)))
        found += await forward(made.timeline, at, ALL, None, 1000)
        assert found == made.lines


class Hasty:
    """A bus that stores and deletes everything between somebody's look at the watermark and the read."""

    def __init__(self, made: Rig) -> None:
        self._rig, self._bus = made, made.bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        while (await self._bus.bounds(0)).start <= offset:
            await self._rig.write(1, app=self._rig.neighbour, text="z" * 3000)
            await self._rig.store_upto(await self._rig.end())
        return await self._bus.read(partition, offset, max_bytes)


async def test_a_reader_whose_place_goes_between_two_looks_goes_on_in_the_store(store: Store) -> None:
    async with rig(store, settings=SMALL) as made:
        for _ in range(9):
            await made.write(4, text="y" * 200)
        timeline = Timeline(made.app, Tiers(Hasty(made), store, made.router))
        assert await forward(timeline, timeline.start, ALL, made.lines[-1].cursor, 1000) == made.lines


class Forgetful(Hasty):
    """A bus whose group has committed nothing, though it has deleted records: what is lost there was never stored."""

    async def watermark(self, partition: int) -> int:
        return 0 * partition


async def test_lines_that_went_before_they_were_stored_are_told_of(store: Store) -> None:
    async with rig(store, settings=SMALL) as made:
        for _ in range(9):
            await made.write(4, text="y" * 200)
        timeline = Timeline(made.app, Tiers(Forgetful(made), store, made.router))
        step = await timeline.read(timeline.start, ALL)
        assert step.lost is not None
        assert step.at == Cursor(made.bus.epoch, 0, (await made.bus.bounds(0)).start, -1)


async def test_a_place_beyond_the_end_is_an_error_and_not_waited_for(store: Store) -> None:
    async with rig(store) as made:
        with pytest.raises(OutOfRange):
            await made.timeline.read(Cursor(made.bus.epoch, 0, 5, -1), ALL)


async def test_a_cursor_from_before_what_is_kept_is_told_so(store: Store) -> None:
    async with rig(store) as made:
        for _ in range(3):
            await made.write(2)
        gone = Cursor(made.bus.epoch, 0, 1, 0)
        assert await made.timeline.forgotten(gone) is None, "nothing is stored yet, and all is on the bus"
        chunks = (await made.bus.read(0, 2, 1)).chunks
        await made.store.insert(chunks)  # as if retention had taken the first two
        await made.commit(3)
        told = await made.timeline.forgotten(gone)
        assert told is not None
        assert "up to 20" in told
        assert await made.timeline.forgotten(gone._replace(line=-1)) is not None, "a heartbeat's place"
        assert await made.timeline.forgotten(made.timeline.start) is None, "everything was asked for"
        assert await made.timeline.forgotten(Cursor(made.bus.epoch, 0, 2, -1)) is None
        assert await made.timeline.forgotten(Cursor(made.bus.epoch, 0, 2, 1)) is None
        assert await made.timeline.forgotten(Cursor(made.bus.epoch, 0, 3, -1)) is None


async def test_a_cursor_of_an_app_of_which_nothing_is_kept_is_told_so(store: Store) -> None:
    async with rig(store) as made:
        await made.write(2)
        await made.commit(1)
        assert await made.timeline.forgotten(Cursor(made.bus.epoch, 0, 0, 0)) is not None


async def test_lines_are_read_while_the_store_takes_them(store: Store) -> None:
    """The watermark runs on under readers of every tier; each reads all lines once."""
    async with rig(store) as made, made.router.watch(made.app):
        loop = StoreLoop(made.group, store, made.bus.epoch, batch_seconds=0.02)
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(loop.run())
            readers = [group.create_task(follow(made, wanted, 400)) for wanted in (EVERYTHING, Filter(grep=("7",)))]
            for _ in range(100):
                await made.write(4)
            await asyncio.wait(readers)
            await until(lambda: made.bus.watermarks()[0] == 100, what="everything is stored")
            late = await follow(made, EVERYTHING, 400)
            storing.cancel()
        assert readers[0].result() == late == made.lines
        assert readers[1].result() == [line for line in made.lines if b"7" in line.message]


async def follow(made: Rig, wanted: Filter, offset: int) -> list[Known]:
    """Read until 100 chunks are passed."""
    at, found = made.timeline.start, []
    while at.offset < 100:
        step = await made.timeline.read(at, Matcher(wanted), lines=offset)
        found += [line for selection in step.selections for line in known(selection)]
        at = step.at
        await asyncio.sleep(0)
    return found


async def test_who_is_little_behind_reads_the_bus_and_a_quiet_app_in_a_noisy_partition_the_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines either way; what differs is how much of others' is read along."""
    monkeypatch.setattr("logsvc.legs.NEAR", 1 << 16)
    async with rig(store) as made:
        matcher = Matcher(EVERYTHING)
        for _ in range(3):
            await made.write(20)
        await made.store_upto(await made.end())
        step = await made.timeline.read(made.timeline.start, matcher)
        assert (step.tier, sum(len(selection.numbers) for selection in step.selections)) == ("bus", 60)
        await made.write(2)
        for _ in range(40):
            await made.write(20, app=made.neighbour, text="x" * 500)
        await made.write(1)
        await made.store_upto(await made.end())
        step = await made.timeline.read(step.at, matcher)
        assert (step.tier, sum(len(selection.numbers) for selection in step.selections)) == ("store", 3)
        assert step.at.offset == await made.end()


async def test_who_is_little_behind_goes_on_while_the_store_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus has it all, though others' lines come along; who is farther behind waits."""
    monkeypatch.setattr("logsvc.legs.NEAR", 1 << 16)
    away = Away(store)
    async with rig(away) as made:  # type: ignore[arg-type]  # it is a store by delegation
        await made.write(2)
        for _ in range(40):
            await made.write(20, app=made.neighbour, text="x" * 500)
        await made.write(1)
        await made.store_upto(await made.end())
        away.away = True
        seen = Cursor(made.bus.epoch, 0, 0, 0)
        assert await made.timeline.forgotten(seen) is None
        selections = [selection async for selection in between(made.timeline, seen, await made.timeline.end(), ALL)]
        assert [line for selection in selections for line in known(selection)] == made.lines[1:]
        monkeypatch.setattr("logsvc.legs.NEAR", 1)
        for asked in (made.timeline.forgotten(seen), made.timeline.read(seen, ALL)):
            with pytest.raises(StoreAway):
                await asked


async def test_it_is_known_what_a_window_has_in_a_moment(store: Store) -> None:
    async with rig(store) as made:
        await made.write(1)
        await made.write(1)
        start, end = made.timeline.start, await made.timeline.end()
        assert not made.timeline.coming(start, end)
        async with made.timeline.watch():
            for place in (end, Cursor(end.epoch, end.partition, end.offset - 1, 0)):
                assert made.timeline.coming(start, place)
            await made.window_is_full()
            for place in (end, Cursor(end.epoch, end.partition, end.offset - 1, 0)):
                assert not made.timeline.coming(start, place)
