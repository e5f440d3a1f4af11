"""What every store promises. A test class of each store inherits `StoreContract` and gives it a store to talk to."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from logsvc.errors import TooCostly
from logsvc.formats import cri
from logsvc.model import EVERYTHING, AppId, Chunk, Cursor, Filter, Origin, Stream, notices_of
from logsvc.purges import Purge
from logsvc.selection import Matcher
from logsvc.store.protocol import Bucket, ReadLimits, Store, StoreReader
from tests.support.store import APPENDED, END, chunk_of, lines_of, messages_of, new_app, stream_of

SECOND = 1_000_000_000
DAY = 86_400

# The store of a class is opened once, and each example has an app of its own. Several classes inherit the tests: an
# example that failed for one of them is as good a question for the others.
each_with_an_app_of_its_own = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)

message = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b" "))
word = st.sampled_from(
    ["error", "Error", "ÄÖ", "äö", "K", "\u212a", "a.b", "\\d", "%", "_", "'", "\t", "\0", "\u017f", " "]
)
text = st.lists(word | st.text(max_size=3), max_size=4).map("".join).map(lambda text: text.replace("\n", ""))
likely_message = text.map(lambda text: text.encode("utf-8", "replace")) | message
pattern = st.sampled_from(
    [
        "err.r",
        "^e",
        "r$",
        "",
        "(?i)ERR",
        "[äÄ]",
        r"\d+",
        r"\bK\b",
        ".",
        "^.{3}$",
        "a|ö",
        r"[^\x00-\x7f]",
        r"\pL{2}",
        "k",
    ]
)
literal = text.filter(lambda text: "\0" not in text) | word
filters = st.builds(
    Filter,
    process=st.sampled_from([frozenset(), frozenset({"web"}), frozenset({"worker", "web"})]),
    dyno=st.sampled_from([frozenset(), frozenset({"web.1"})]),
    source=st.sampled_from([frozenset(), frozenset({"app"}), frozenset({"platform"})]),
    stream=st.sampled_from([frozenset(), frozenset({"stdout"}), frozenset({"stderr"})]),
    not_process=st.sampled_from([frozenset(), frozenset({"web"}), frozenset({"worker", "none"})]),
    not_dyno=st.sampled_from([frozenset(), frozenset({"web.1"})]),
    not_source=st.sampled_from([frozenset(), frozenset({"platform"})]),
    not_stream=st.sampled_from([frozenset(), frozenset({"stderr"})]),
    grep=st.lists(literal, max_size=2).map(tuple),
    grep_re=st.lists(pattern, max_size=2).map(tuple),
    exclude=st.lists(literal, max_size=1).map(tuple),
    exclude_re=st.lists(pattern, max_size=1).map(tuple),
    ignore_case=st.booleans(),
    since=st.none() | st.integers(0, 5 * SECOND).map(lambda ns: APPENDED * 1_000_000 + ns),
    until=st.none() | st.integers(0, 5 * SECOND).map(lambda ns: APPENDED * 1_000_000 + ns),
)


@st.composite
def chunks_of_one_app(draw: st.DrawFn, app: AppId, messages: st.SearchStrategy[bytes] = likely_message) -> list[Chunk]:
    """Chunks of several streams, notices among them, with gaps between their offsets and lines out of time's order."""
    streams = [
        stream_of(app),
        stream_of(app, "worker"),
        stream_of(app, "web", "platform"),
        Stream.of(notices_of(app).key()),
    ]
    chunks, offset = [], draw(st.integers(0, 5))
    for number in range(draw(st.integers(1, 6))):
        lines = [
            cri.format_line(
                cri.format_time(APPENDED * 1_000_000 + draw(st.integers(0, 5 * SECOND))),
                draw(st.sampled_from([b"stdout", b"stderr"])),
                draw(messages),
                partial=draw(st.booleans()),
            )
            for _ in range(draw(st.integers(1, 5)))
        ]
        stream = draw(st.sampled_from(streams))
        chunks.append(Chunk(1, 0, offset, APPENDED + number, stream, b"".join(lines)))
        offset += draw(st.integers(1, 3))
    return chunks


def all_lines(chunks: list[Chunk]) -> list[tuple[Cursor, bytes]]:
    return [(chunk.cursor(at), line) for chunk in chunks for at, line in enumerate(cri.lines(chunk.value))]


class StoreContract:
    """Inherit, and give a fixture `store`: an open Store that keeps retention class 1 for one day, others for ever.

    Tests share it, so each has an app of its own. Epoch 1 is the newest; epoch 0 came before.
    """

    # ---- reads have limits

    @pytest.mark.parametrize("limits", [ReadLimits(bytes=1000), ReadLimits(seconds=1e-6)], ids=["bytes", "seconds"])
    async def test_a_read_beyond_its_limits_is_refused_whatever_it_asks_for(self, store: Store, limits: ReadLimits):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), offset, *[b"x" * 1000] * 1000) for offset in range(20)])
        wanted = Filter(grep_re=("nowhere(x*)*y",))
        limited = store.limited(limits)
        reads: list[Callable[[StoreReader], Awaitable[object]]] = [
            lambda store: store.after(app, Cursor(1, 0, 0, -1), 100, wanted, 10_000),
            lambda store: store.before(app, END, wanted, 10_000),
            lambda store: store.volume(app, END, wanted, SECOND),
        ]
        for read in reads:
            with pytest.raises(TooCostly):
                await read(limited)
            await read(store)
            await read(store.limited(ReadLimits(seconds=20, bytes=1 << 30)))

    async def test_the_rows_that_reads_look_at_are_counted_not_only_those_they_find(self, store: Store) -> None:
        app = new_app()
        await store.insert([chunk_of(stream_of(app), offset, *[b"x"] * 1000) for offset in range(20)])
        counted: list[int] = []

        @asynccontextmanager
        async def turn() -> AsyncIterator[Callable[[int], None]]:
            yield counted.append

        counting = store.limited(ReadLimits(turn=turn))
        await counting.before(app, END, Filter(grep=("nowhere",)), 10)
        assert counted[0] >= 20_000
        counted.clear()
        await counting.volume(app, END, EVERYTHING, SECOND)
        assert counted[0] >= 20_000
        counted.clear()
        await counting.before(app, END, EVERYTHING, 10)
        assert 10 <= counted[0] < 20_000

    # ---- what is purged does not

    async def test_what_is_purged_is_gone_and_nothing_else(self, store: Store) -> None:
        app, other = new_app(), new_app()
        odd = app._replace(tenant="it's \\ odd")
        for each in (app, other, odd):
            for epoch, offsets in ((1, (0, 5, 6)), (2, (0,))):
                await store.insert(
                    [chunk_of(stream_of(each), offset, b"one", b"two", epoch=epoch) for offset in offsets]
                )
        for each in (app, odd):
            purge = Purge(each, Cursor(1, 0, 6, -1), APPENDED)
            assert await store.purge(purge)
            assert not await store.purge(purge)
            page = await store.after(each, Cursor(1, 0, 0, -1), 100, EVERYTHING, 100)
            assert [cursor.offset for cursor, _ in lines_of(page)] == [6, 6]
            assert len(lines_of(await store.after(each, Cursor(2, 0, 0, -1), 100, EVERYTHING, 100))) == 2
            assert not await store.exists(each), "it has no line newer than the purge"
        assert len(lines_of(await store.after(other, Cursor(1, 0, 0, -1), 100, EVERYTHING, 100))) == 6
        assert await store.exists(other)
        await store.insert([chunk_of(stream_of(app), 9, b"new", appended=APPENDED + 1)])
        assert not await store.purge(Purge(app, Cursor(1, 0, 6, -1), APPENDED))
        assert await store.exists(app)

    # ---- what was inserted comes back

    @each_with_an_app_of_its_own
    @given(data=st.data())
    async def test_lines_come_back_byte_for_byte(self, store: Store, data: st.DataObject):
        app = new_app()
        chunks = data.draw(chunks_of_one_app(app, message))
        await store.insert(chunks)

        page = await store.after(app, Cursor(1, 0, 0, -1), 1 << 50, EVERYTHING, 1000)

        assert lines_of(page) == all_lines(chunks)
        assert page.done
        for stored, chunk in zip(page.chunks, chunks, strict=True):
            assert stored.stream is chunk.stream
            assert stored.appended == chunk.appended
            assert stored.partial == (b" P " in b"".join(line[30:40] for line in cri.lines(chunk.value)))

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            (b"2026-11-23T02:00:00Z", b"2026-11-23T02:00:00.000000000Z"),
            (b"2026-11-23T02:00:00.5Z", b"2026-11-23T02:00:00.500000000Z"),
            (b"2026-11-23T02:00:00.000000001Z", b"2026-11-23T02:00:00.000000001Z"),
            (b"2026-11-23T02:00:00.123456789+00:00", b"2026-11-23T02:00:00.123456789Z"),
            (b"2026-11-23T02:00:00.12-05:30", b"2026-11-23T07:30:00.120000000Z"),
            (b"2026-11-23T00:30:00+01:00", b"2026-11-22T23:30:00.000000000Z"),
            (b"1969-12-31T23:59:59.999999999Z", b"1969-12-31T23:59:59.999999999Z"),
            (b"1900-01-01T00:00:00Z", b"1900-01-01T00:00:00.000000000Z"),
            (b"2261-12-31T23:59:59.999999999Z", b"2261-12-31T23:59:59.999999999Z"),
        ],
    )
    async def test_times_come_back_as_nanoseconds_in_utc(self, store: Store, written: bytes, shown: bytes):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 0, b"hello", stamp=written)])
        page = await store.before(app, END, EVERYTHING, 1)
        assert lines_of(page) == [(Cursor(1, 0, 0, 0), shown + b" stdout F hello")]
        assert cri.utc(written) == shown

    @pytest.mark.parametrize("stamp", [b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z", b"2026-02-30T00:00:00Z"])
    async def test_a_time_that_cannot_be_is_the_time_of_the_append(self, store: Store, stamp: bytes):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 0, b"hello", stamp=stamp)])
        page = await store.before(app, END, EVERYTHING, 1)
        assert lines_of(page) == [(Cursor(1, 0, 0, 0), b"2026-11-23T02:00:00.000000000Z stdout F hello")]

    async def test_lines_that_are_not_cri_stop_nothing_and_are_seen(self, store: Store):
        app = new_app()
        bad = [b"", b"no header", b"\xff\0", b"2026-11-23T02:00:00Z stdout X tag", b" stdout F no time"]
        chunk = chunk_of(stream_of(app), 7, b"good")
        chunk.value += b"".join(line + b"\n" for line in bad) + b"2026-11-23T02:00:00Z stderr P cut off"
        await store.insert([chunk])

        page = await store.before(app, END, EVERYTHING, 100)

        assert messages_of(page) == [b"good", *bad[:-1], b"no time", b"cut off"]
        assert [cursor.line for cursor, _ in lines_of(page)] == list(range(7))

    async def test_an_empty_chunk_is_no_line(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 0), chunk_of(stream_of(app), 1, b"hello")])
        assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"hello"]
        await store.insert([])

    async def test_names_may_hold_anything(self, store: Store):
        app = AppId("t'\\\0\t\n\"{x:String}", "äpp \U0001f600 %s")
        stream = Stream(app.tenant, app.app, "we'b", "we\\b.1", "app", "\n", 7)
        await store.insert([chunk_of(Stream.of(stream.key()), 0, b"hello")])
        page = await store.before(app, END, Filter(process=frozenset({"we'b"}), dyno=frozenset({"we\\b.1"})), 1)
        assert [chunk.stream for chunk in page.chunks] == [stream]
        assert [summary.app for summary in await store.apps(app.tenant)] == [app.app]

    # ---- a batch inserted twice is one batch

    @settings(each_with_an_app_of_its_own, max_examples=30)
    @given(data=st.data())
    async def test_batches_repeated_with_other_boundaries_are_one(self, store: Store, data: st.DataObject):
        app = new_app()
        chunks = data.draw(chunks_of_one_app(app))
        await store.insert(chunks)
        for _ in range(data.draw(st.integers(1, 3))):
            start, end = sorted((data.draw(st.integers(0, len(chunks))), data.draw(st.integers(0, len(chunks)))))
            await store.insert(data.draw(st.permutations(chunks[start:end])))

        expected = all_lines(chunks)
        for size in (4, 1000):
            assert await read_forward(store, app, size) == expected
            assert await read_back(store, app, size) == expected
        buckets = await store.volume(app, END, EVERYTHING, SECOND)
        assert sum(bucket.lines for bucket in buckets) == len(expected)

    async def test_writers_at_once_insert_the_same_batch(self, store: Store):
        app = new_app()
        chunks = [chunk_of(stream_of(app), offset, b"%d" % offset) for offset in range(50)]
        async with asyncio.TaskGroup() as tasks:
            for size in (1, 7, 50):
                for at in range(0, 50, size):
                    tasks.create_task(store.insert(chunks[at : at + size]))
        assert messages_of(await store.before(app, END, EVERYTHING, 100)) == [b"%d" % number for number in range(50)]

    # ---- paging

    @each_with_an_app_of_its_own
    @given(data=st.data())
    async def test_pages_join_without_a_seam_in_both_directions(self, store: Store, data: st.DataObject):
        app = new_app()
        chunks = data.draw(chunks_of_one_app(app))
        await store.insert(chunks)
        lines = all_lines(chunks)
        at = data.draw(st.integers(0, len(lines) - 1))
        size = data.draw(st.integers(1, 4))

        after = await store.after(app, lines[at][0], 1 << 50, EVERYTHING, size)
        assert lines_of(after) == lines[at + 1 : at + 1 + size]
        assert after.done == (at + 1 + size >= len(lines))

        before = await store.before(app, lines[at][0], EVERYTHING, size)
        assert lines_of(before) == lines[max(0, at - size) : at]
        assert before.done == (at <= size)

    async def test_before_stays_above_its_floor_and_in_its_epoch(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 9, b"old", epoch=0)])
        await store.insert([chunk_of(stream_of(app), offset, b"%d" % offset) for offset in range(5)])
        await store.record(0, {0: 10})
        for floor, expected in [(3, [b"3", b"4"]), (0, [b"0", b"1", b"2", b"3", b"4"]), (5, [])]:
            page = await store.before(app, END, EVERYTHING, 100, floor)
            assert (messages_of(page), page.done) == (expected, True)
        assert messages_of(await store.before(app, END, EVERYTHING, 100)) == [b"old", b"0", b"1", b"2", b"3", b"4"]

    async def test_after_stays_below_the_watermark(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), offset, b"%d" % offset) for offset in range(5)])
        page = await store.after(app, Cursor(1, 0, 0, -1), 3, EVERYTHING, 100)
        assert (messages_of(page), page.done) == ([b"0", b"1", b"2"], True)

    async def test_before_goes_on_into_older_epochs(self, store: Store):
        app = new_app()
        await store.record(0, {5: 1})
        await store.insert([chunk_of(stream_of(app), 9, b"old 0", b"old 1", epoch=0, partition=5)])
        await store.insert([chunk_of(stream_of(app), 2, b"new 0", b"new 1")])

        assert messages_of(await store.before(app, END, EVERYTHING, 3)) == [b"old 1", b"new 0", b"new 1"]
        page = await store.before(app, END, EVERYTHING, 2)
        assert (messages_of(page), page.done) == ([b"new 0", b"new 1"], False)
        page = await store.before(app, Cursor(1, 0, 2, 0), EVERYTHING, 2)
        assert (messages_of(page), page.done) == ([b"old 0", b"old 1"], True)
        assert page.chunks[0].cursor(0) == Cursor(0, 5, 9, 0)

    async def test_a_page_of_very_long_lines_is_cut_and_goes_on(self, store: Store):
        app = new_app()
        long = random.Random(1).randbytes(200_000).replace(b"\n", b" ")
        chunks = [chunk_of(stream_of(app), offset, long, b"%d" % offset) for offset in range(120)]
        await store.insert(chunks[:60])
        await store.insert(chunks[60:])

        page = await store.after(app, Cursor(1, 0, 0, -1), 1 << 50, EVERYTHING, 1000)

        assert not page.done
        assert 0 < sum(len(chunk.value) for chunk in page.chunks) < 20_000_000
        assert await read_forward(store, app, 1000) == all_lines(chunks)
        assert await read_back(store, app, 1000) == all_lines(chunks)

    # ---- filters mean the same as in the live tiers

    @each_with_an_app_of_its_own
    @example(data=None, wanted=Filter(grep=("K",), ignore_case=True))
    @given(data=st.data(), wanted=filters)
    async def test_a_filter_takes_the_lines_that_it_takes_live(
        self, store: Store, data: st.DataObject | None, wanted: Filter
    ):
        app = new_app()
        kelvins = [chunk_of(stream_of(app), 0, b"k", b"K", "\u212a".encode(), b"\xe2\x84")]
        chunks = data.draw(chunks_of_one_app(app)) if data else kelvins
        await store.insert(chunks)
        matcher = Matcher(wanted)
        live = [selection for chunk in chunks if (selection := matcher.select(chunk)) is not None]
        expected = [
            (selection.chunk.cursor(number), line)
            for selection in live
            for number, line in zip(selection.numbers, cri.lines(selection.value), strict=True)
        ]

        assert lines_of(await store.after(app, Cursor(1, 0, 0, -1), 1 << 50, wanted, 1000)) == expected
        assert lines_of(await store.before(app, END, wanted, 1000)) == expected
        assert sum(bucket.lines for bucket in await store.volume(app, END, wanted, SECOND)) == len(expected)

    async def test_limits_count_after_the_filter(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), offset, b"odd", b"even %d" % offset) for offset in range(10)])
        page = await store.before(app, END, Filter(grep=("even",)), 2)
        assert (messages_of(page), page.done) == ([b"even 8", b"even 9"], False)

    # ---- what else is known of an app

    async def test_the_first_line_kept(self, store: Store):
        app = new_app()
        assert await store.first(app, 1) is None
        await store.insert([chunk_of(stream_of(app), offset, b"x", partition=3) for offset in (8, 5, 6)])
        assert await store.first(app, 1) == Cursor(1, 3, 5, 0)
        assert await store.first(app, 2) is None

    async def test_volume_counts_lines_by_time_process_and_stream(self, store: Store):
        app = new_app()
        web, worker = stream_of(app), stream_of(app, "worker")
        await store.insert(
            [
                chunk_of(web, 1, b"a", b"b", stamp=b"2026-11-23T02:00:01.9Z"),
                chunk_of(worker, 2, b"c", stamp=b"2026-11-23T02:00:04Z"),
                chunk_of(web, 3, b"d", b"e", stamp=b"2026-11-23T02:00:05Z"),
            ]
        )
        start = APPENDED * 1_000_000
        assert await store.volume(app, Cursor(1, 0, 3, 1), EVERYTHING, 4 * SECOND) == [
            Bucket(start, ("web", "stdout"), 2),
            Bucket(start + 4 * SECOND, ("web", "stdout"), 1),
            Bucket(start + 4 * SECOND, ("worker", "stdout"), 1),
        ]
        assert await store.volume(app, END, EVERYTHING, 8 * SECOND, ("dyno", "source")) == [
            Bucket(start, ("web.1", "app"), 4),
            Bucket(start, ("worker.1", "app"), 1),
        ]
        assert await store.volume(new_app(), END, EVERYTHING, SECOND) == []

    async def test_apps_of_a_tenant(self, store: Store):
        first, second = new_app(), new_app()
        second = AppId(first.tenant, second.app)
        await store.insert([chunk_of(stream_of(first), 0, b"x"), chunk_of(stream_of(first, "clock"), 1, b"x")])
        await store.insert([chunk_of(stream_of(second), 2, b"x", appended=APPENDED + 5)])
        await store.insert([chunk_of(stream_of(second), 1, b"x", appended=APPENDED + 4)])
        found = {summary.app: (summary.processes, summary.last) for summary in await store.apps(first.tenant)}
        assert found == {first.app: (["clock", "web"], APPENDED), second.app: (["web"], APPENDED + 5)}
        assert await store.exists(first)
        assert not await store.exists(new_app())

    async def test_nobody_reads_another_tenants_lines(self, store: Store):
        mine, other = new_app(), new_app()
        other = AppId(other.tenant, mine.app)
        await store.insert([chunk_of(stream_of(mine), 0, b"mine"), chunk_of(stream_of(other), 1, b"theirs")])
        assert messages_of(await store.before(mine, END, EVERYTHING, 10)) == [b"mine"]
        sly = Filter(grep=("' OR 1=1 --",), process=frozenset({"web') OR ('1'='1"}))
        assert messages_of(await store.before(mine, END, sly, 10)) == []

    async def test_the_newest_origin_of_each_file(self, store: Store):
        app, node = new_app(), f"node-{new_app().app}"
        newer = Origin(node, "file", 100, 200, 7, (("file:0", 3),))
        origins = {5: newer, 4: Origin(node, "file", 0, 100), 3: Origin(node, "other", 0, 9)}
        for offset, origin in origins.items():
            await store.insert([chunk_of(stream_of(app), offset, b"x", origin=origin.header())])
        assert list((await store.origins(node)).items()) == [("other", origins[3]), ("file", newer)]
        assert await store.origins(node, ["other", "none"]) == {"other": origins[3]}
        assert await store.origins("another node") == {}

    async def test_watermarks_never_go_back(self, store: Store):
        await store.record(77, {0: 10, 1: 20})
        await store.record(77, {0: 9})
        await store.record(77, {})
        assert await store.watermarks(77) == {0: 10, 1: 20}
        assert await store.watermarks(78) == {}

    # ---- life

    async def test_migrating_again_and_at_once_changes_nothing(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 0, b"x")])
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(store.migrate())
        assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"x"]

    async def test_days_go_when_their_class_says(self, store: Store):
        app = new_app()
        day = APPENDED // 1000 // DAY * DAY
        for offset, (retention, days) in enumerate([(0, 0), (1, 0), (1, 1)]):
            stream = stream_of(app, retention=retention)
            text = b"class %d day %d" % (retention, days)
            await store.insert([chunk_of(stream, offset, text, appended=(day + days * DAY) * 1000)])

        await store.retain(day + 2 * DAY - 1)
        assert len(messages_of(await store.before(app, END, EVERYTHING, 10))) == 3
        await store.retain(day + 2 * DAY)
        assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"class 0 day 0", b"class 1 day 1"]

    async def test_a_cancelled_read_leaves_the_store_usable(self, store: Store):
        app = new_app()
        await store.insert([chunk_of(stream_of(app), 0, b"x")])
        reads = [asyncio.ensure_future(store.before(app, END, EVERYTHING, 10)) for _ in range(50)]
        await reads[0]
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"x"]


async def read_forward(store: Store, app: AppId, size: int) -> list[tuple[Cursor, bytes]]:
    lines: list[tuple[Cursor, bytes]] = []
    after, done = Cursor(1, 0, 0, -1), False
    while not done:
        page = await store.after(app, after, 1 << 50, EVERYTHING, size)
        lines += lines_of(page)
        after, done = (lines[-1][0] if lines else after), page.done
    return lines


async def read_back(store: Store, app: AppId, size: int) -> list[tuple[Cursor, bytes]]:
    lines: list[tuple[Cursor, bytes]] = []
    before, done = END, False
    while not done:
        page = await store.before(app, before, EVERYTHING, size)
        lines[:0] = lines_of(page)
        before, done = (lines[0][0] if lines else before), page.done
    return lines
