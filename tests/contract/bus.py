"""What every bus promises. A test class of each bus inherits `BusContract` and says how to open it.

Offsets may have holes on some buses, so nothing in here counts with neighbouring offsets.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from logsvc.bus.protocol import Bus, Fetched, GroupReader, LiveReader
from logsvc.errors import OutOfRange
from logsvc.model import MAX_CHUNK, Chunk, Cursor, Origin, Stream
from tests.support.bus import APPS, PARTITIONS, partition_of, read_all, stream, values
from tests.support.wait import DEADLINE

Opener = Callable[[], AbstractAsyncContextManager[Bus]]
SILENCE = 0.05
"""Seconds after which a group reader that has nothing to read says so."""


async def live_chunks(reader: LiveReader, count: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    async with asyncio.timeout(DEADLINE):
        while len(chunks) < count:
            for fetched in await reader.fetch():
                chunks += fetched.chunks
    return chunks


async def group_fetches(reader: GroupReader, count: int, max_bytes: int = 1 << 20) -> list[Fetched]:
    """What comes until `count` chunks have come."""
    all_fetched: list[Fetched] = []
    async with asyncio.timeout(DEADLINE):
        while sum(len(fetched.chunks) for fetched in all_fetched) < count:
            all_fetched += await reader.fetch(max_bytes, DEADLINE)
    return all_fetched


class BusContract:
    """Inherit, and give a fixture `opener`: each call opens the same bus, of PARTITIONS partitions, again."""

    @pytest.fixture
    async def bus(self, opener: Opener) -> AsyncIterator[Bus]:
        async with opener() as bus:
            yield bus

    # ---- appending and reading

    async def test_a_chunk_comes_back_as_it_was_appended(self, bus: Bus):
        origin = Origin("node-1", "uid/web/0:1234", 4096, 8192, 0xDEADBEEF, (("uid/web/0:12", 7),))
        cursor = await bus.append(stream(), b"a line\n", origin=origin, partial=True)

        (chunk,) = (await bus.read(cursor.partition, cursor.offset, 1)).chunks

        assert chunk.cursor(-1) == cursor == Cursor(bus.epoch, partition_of("app"), cursor.offset, -1)
        assert chunk.stream is Stream.of(stream().key())
        assert (chunk.value, chunk.origin, chunk.partial, chunk.indices) == (b"a line\n", origin.header(), True, None)
        assert Origin.parse(chunk.origin) == origin

    async def test_without_origin_there_is_none(self, bus: Bus):
        cursor = await bus.append(stream(), b"a line\n")
        (chunk,) = (await bus.read(cursor.partition, cursor.offset, 1)).chunks
        assert (chunk.origin, chunk.partial) == (b"", False)

    async def test_appends_made_together_keep_the_order_of_the_calls(self, bus: Bus):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(bus.append(stream(), b"%d\n" % number)) for number in range(500)]

        cursors = [task.result() for task in tasks]
        assert cursors == sorted(set(cursors))
        chunks = await read_all(bus, partition_of("app"))
        assert values(chunks) == [b"%d\n" % number for number in range(500)]
        assert [chunk.cursor(-1) for chunk in chunks] == cursors

    async def test_many_writers_at_once_each_find_their_own_lines_in_order(self, bus: Bus):
        async def write(app: str, dyno: str) -> None:
            for number in range(20):
                await bus.append(stream(app, dyno), f"{dyno} {number}\n".encode())

        async with asyncio.TaskGroup() as group:
            for app in APPS:
                for dyno in ("web.1", "web.2", "web.3"):
                    group.create_task(write(app, dyno))

        for app in APPS:
            found = defaultdict(list)
            for chunk in await read_all(bus, partition_of(app), max_bytes=100):
                assert chunk.stream.app == app
                found[chunk.stream.dyno].append(chunk.value)
            assert found == {
                dyno: [f"{dyno} {number}\n".encode() for number in range(20)] for dyno in ("web.1", "web.2", "web.3")
            }

    async def test_a_record_is_of_the_time_of_its_append_and_times_do_not_go_back(self, bus: Bus):
        for number in range(5):
            await bus.append(stream(), b"%d\n" % number)
        times = [chunk.appended for chunk in await read_all(bus, partition_of("app"))]
        assert times == sorted(times)
        assert times[0] > 1_600_000_000_000

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\n",
            b"\x00" * 100,
            b"\xff\xfe\x80\n",
            b"\r\n\x1b[2J\x1b]0;title\x07\n",
            b"2026-11-23T02:00:00Z stdout F forged\n2026-11-23T02:00:00Z stderr P \n",
            bytes(range(256)) * 16,
            b"\xf5LR\n" * 1000,
        ],
        ids=["empty", "newline", "nul", "not utf-8", "controls", "forged cri", "all bytes", "journal magic"],
    )
    async def test_hostile_bytes_come_back_as_they_are(self, bus: Bus, value: bytes):
        await bus.append(stream(), b"before\n")
        await bus.append(stream(), value)
        await bus.append(stream(), b"after\n")
        assert values(await read_all(bus, partition_of("app"))) == [b"before\n", value, b"after\n"]

    async def test_hostile_names_come_back_as_they_are(self, bus: Bus):
        hostile = Stream("t\0enant", 'a"pp\n', "wéb", "web\u2028.1", "app", "\x7f" * 1000, 7)
        cursor = await bus.append(hostile, b"a line\n")
        (chunk,) = (await bus.read(cursor.partition, cursor.offset, 1)).chunks
        assert chunk.stream == hostile

    async def test_the_largest_chunk_is_taken_and_a_larger_one_refused(self, bus: Bus):
        largest = b"x" * MAX_CHUNK
        await bus.append(stream(), largest)
        with pytest.raises(ValueError, match=str(MAX_CHUNK)):
            await bus.append(stream(), largest + b"x")
        assert values(await read_all(bus, partition_of("app"))) == [largest]

    async def test_what_was_acknowledged_is_there_when_the_bus_is_opened_again(self, opener: Opener):
        async with opener() as bus:
            epoch = bus.epoch
            cursors = [await bus.append(stream(app), app.encode()) for app in APPS]
            found = {app: await read_all(bus, partition_of(app)) for app in APPS}

        async with opener() as bus:
            assert bus.epoch == epoch
            for app in APPS:
                again = await read_all(bus, partition_of(app))
                assert [(c.cursor(-1), c.appended, c.value, c.stream) for c in again] == [
                    (c.cursor(-1), c.appended, c.value, c.stream) for c in found[app]
                ]
            assert await bus.append(stream(APPS[0]), b"more\n") > cursors[0]

    # ---- reading where there is nothing, or no more

    async def test_an_empty_partition_has_nothing_to_read(self, bus: Bus):
        start, end = await bus.bounds(3)
        assert start == end
        assert await bus.read(3, start, 1 << 20) == Fetched(3, [], end)

    async def test_a_read_is_bounded_but_gets_on(self, bus: Bus):
        for _ in range(10):
            cursor = await bus.append(stream(), b"x" * 1000)
        start, end = await bus.bounds(cursor.partition)
        assert end == cursor.offset + 1
        assert len((await bus.read(cursor.partition, start, 1)).chunks) == 1
        assert 1 <= len((await bus.read(cursor.partition, start, 3000)).chunks) <= 4

    async def test_offsets_beyond_the_end_are_refused_with_the_bounds(self, bus: Bus):
        await bus.append(stream(), b"a line\n")
        partition = partition_of("app")
        start, end = await bus.bounds(partition)
        for offset in (end + 1, end + 1000):
            with pytest.raises(OutOfRange) as refusal:
                await bus.read(partition, offset, 1)
            assert (refusal.value.start, refusal.value.end) == (start, end)

    # ---- fences

    async def test_a_fence_stands_behind_what_was_appended_and_readers_skip_it(self, bus: Bus):
        partition = partition_of("app")
        before = await bus.append(stream(), b"before\n")
        fence = await bus.fence(partition)
        after = await bus.append(stream(), b"after\n")

        assert before.offset < fence < after.offset
        assert values(await read_all(bus, partition)) == [b"before\n", b"after\n"]
        assert (await bus.read(partition, fence, 1)).next > fence

    async def test_under_a_name_the_same_holds(self, bus: Bus):
        partition = partition_of("app")
        appender = bus.named("a name")
        before = await appender.append(stream(), b"before\n", partial=True)
        fence = await appender.fence(partition)
        await bus.append(stream(), b"of another\n")
        after = await bus.named("a name").append(stream(), b"after\n")

        assert before.offset < fence < after.offset
        assert values(await read_all(bus, partition)) == [b"before\n", b"of another\n", b"after\n"]

    async def test_a_fence_at_the_end_is_accounted_for(self, bus: Bus):
        reader, group = bus.live(), bus.group()
        reader.watch(5, (await bus.bounds(5)).end)
        fence = await bus.fence(5)
        end = (await bus.bounds(5)).end

        assert end > fence
        assert await bus.read(5, fence, 1) == Fetched(5, [], end)
        async with asyncio.timeout(DEADLINE):
            assert await reader.fetch() == [Fetched(5, [], end)]
            assert await group.fetch(1 << 20, DEADLINE) == [Fetched(5, [], end)]
        await group.commit({5: end})
        assert await bus.watermark(5) == end

    # ---- live readers

    async def test_a_watcher_gets_what_is_there_and_then_what_comes(self, bus: Bus):
        first = await bus.append(stream(), b"1\n")
        reader = bus.live()
        reader.watch(first.partition, first.offset)
        assert values(await live_chunks(reader, 1)) == [b"1\n"]

        fetching = asyncio.create_task(live_chunks(reader, 2))
        await bus.append(stream(), b"2\n")
        await bus.append(stream(), b"3\n")
        assert values(await fetching) == [b"2\n", b"3\n"]

    async def test_only_watched_partitions_are_returned(self, bus: Bus):
        reader = bus.live()
        watched = partition_of(APPS[0])
        reader.watch(watched, 0)
        for app in reversed(APPS):
            await bus.append(stream(app), app.encode())
        assert values(await live_chunks(reader, 1)) == [APPS[0].encode()]

        reader.unwatch(watched)
        reader.watch(partition_of(APPS[1]), 0)
        await bus.append(stream(APPS[0]), b"unseen\n")
        assert values(await live_chunks(reader, 1)) == [APPS[1].encode()]

    async def test_watching_again_moves_the_place(self, bus: Bus):
        cursors = [await bus.append(stream(), b"%d\n" % number) for number in range(5)]
        reader = bus.live()
        reader.watch(cursors[0].partition, cursors[0].offset)
        await live_chunks(reader, 5)
        reader.watch(cursors[0].partition, cursors[3].offset)
        assert values(await live_chunks(reader, 2)) == [b"3\n", b"4\n"]

    async def test_readers_have_places_of_their_own(self, bus: Bus):
        cursors = [await bus.append(stream(), b"%d\n" % number) for number in range(3)]
        early, late = bus.live(), bus.live()
        early.watch(cursors[0].partition, cursors[0].offset)
        late.watch(cursors[0].partition, cursors[2].offset)
        assert values(await live_chunks(late, 1)) == [b"2\n"]
        assert values(await live_chunks(early, 3)) == [b"0\n", b"1\n", b"2\n"]
        await late.close()
        await bus.append(stream(), b"3\n")
        assert values(await live_chunks(early, 1)) == [b"3\n"]

    async def test_a_flooding_app_does_not_delay_another(self, bus: Bus):
        flood, quiet = partition_of(APPS[0]), partition_of(APPS[1])
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(bus.append(stream(APPS[0]), b"x" * 256 * 1024))
        reader = bus.live()
        reader.watch(flood, 0)
        reader.watch(quiet, 0)
        await bus.append(stream(APPS[1]), b"a quiet line\n")

        flooded = 0
        async with asyncio.timeout(DEADLINE):
            while True:
                shares = {fetched.partition: fetched for fetched in await reader.fetch()}
                if flood in shares:
                    share = sum(len(chunk.value) for chunk in shares[flood].chunks)
                    assert share <= (1 << 20) + MAX_CHUNK
                    flooded += share
                if quiet in shares:
                    break
        assert flooded <= 4 << 20, "the quiet app waited for the flood"
        assert values(shares[quiet].chunks) == [b"a quiet line\n"]

    # ---- the store's group

    async def test_the_group_reads_all_partitions_in_order(self, bus: Bus):
        group = bus.group()
        async with asyncio.TaskGroup() as tasks:
            for number in range(50):
                for app in APPS:
                    tasks.create_task(bus.append(stream(app), b"%d\n" % number))

        found = defaultdict(list)
        for fetched in await group_fetches(group, 50 * len(APPS), max_bytes=500):
            assert all(chunk.partition == fetched.partition for chunk in fetched.chunks)
            assert all(chunk.offset < fetched.next for chunk in fetched.chunks)
            found[fetched.partition] += values(fetched.chunks)
        assert found == {partition_of(app): [b"%d\n" % number for number in range(50)] for app in APPS}

    async def test_the_group_waits_for_what_comes(self, bus: Bus):
        group = bus.group()
        assert await group.fetch(1 << 20, SILENCE) == []
        fetching = asyncio.create_task(group_fetches(group, 1))
        await bus.append(stream(), b"a line\n")
        (fetched,) = await fetching
        assert values(fetched.chunks) == [b"a line\n"]

    async def test_a_new_member_goes_on_at_the_commit(self, opener: Opener):
        async with opener() as bus:
            for number in range(10):
                await bus.append(stream(), b"%d\n" % number)
            group = bus.group()
            fetches = await group_fetches(group, 10)
            chunks = [chunk for fetched in fetches for chunk in fetched.chunks]
            await group.commit({chunks[0].partition: chunks[6].offset})
            await group.close()

            group = bus.group()
            assert values([c for f in await group_fetches(group, 4) for c in f.chunks]) == [
                b"6\n",
                b"7\n",
                b"8\n",
                b"9\n",
            ]
        async with opener() as bus:
            await bus.append(stream(), b"10\n")
            group = bus.group()
            again = [chunk for fetched in await group_fetches(group, 5) for chunk in fetched.chunks]
            assert values(again) == [b"6\n", b"7\n", b"8\n", b"9\n", b"10\n"]

    async def test_the_watermark_is_the_start_and_then_what_was_committed(self, opener: Opener):
        partition = partition_of("app")
        async with opener() as bus:
            assert await bus.watermark(partition) == (await bus.bounds(partition)).start
            await bus.append(stream(), b"a line\n")
            assert await bus.watermark(partition) == (await bus.bounds(partition)).start
            group = bus.group()
            (fetched,) = await group_fetches(group, 1)
            await group.commit({partition: fetched.next})
            assert await bus.watermark(partition) == fetched.next
            other = (partition + 1) % PARTITIONS
            assert await bus.watermark(other) == (await bus.bounds(other)).start
        async with opener() as bus:
            assert await bus.watermark(partition) == fetched.next
