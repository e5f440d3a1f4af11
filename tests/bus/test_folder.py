"""A bus's folder: one process at a time, room that comes back, room that runs out."""

import asyncio
import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.bus.records import GAP
from logsvc.bus.segment import Segment
from logsvc.errors import BusError, ConfigError, OutOfRange
from logsvc.model import Cursor
from tests.contract.bus import group_fetches
from tests.support.bus import partition_of, read_all, stream, values
from tests.support.wait import DEADLINE, until

PARTITION = partition_of("app")
SMALL = LocalSettings(segment_bytes=2000, max_bytes=20_000, hold_back=0, sync_interval=0.01)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.journal"))


async def append(bus: LocalBus, numbers: range, size: int = 0) -> None:
    for number in numbers:
        await bus.append(stream(), b"%d%b\n" % (number, b" " * size))


async def numbers(bus: LocalBus) -> list[int]:
    return [int(value) for value in values(await read_all(bus, PARTITION))]


async def synced(bus: LocalBus) -> None:
    await until(lambda: all(segment.synced for segment in bus.journal.segments))


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: writes fail in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- one process


async def test_a_folder_in_use_names_the_process_that_uses_it(tmp_path: Path):
    program = (
        "import asyncio, sys, pathlib\n"
        "from logsvc.bus.local import LocalBus\n"
        "async def main():\n"
        "    async with LocalBus.open(pathlib.Path(sys.argv[1]), partitions=8):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.to_thread(sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", program, tmp_path, stdin=pipe, stdout=pipe)
    assert holder.stdin is not None
    assert holder.stdout is not None
    async with asyncio.timeout(DEADLINE):
        assert await holder.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid}:"):
            async with LocalBus.open(tmp_path, partitions=8):
                pass
        holder.stdin.close()
        assert await holder.wait() == 0
    async with LocalBus.open(tmp_path, partitions=8):
        pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/bus can't be used: Not a directory"):
        async with LocalBus.open(tmp_path / "file" / "bus"):
            pass


async def test_a_closed_bus_has_written_what_it_took_and_takes_no_more(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        appending = [asyncio.create_task(bus.append(stream(), b"%d\n" % number)) for number in range(100)]
        reader = bus.live()
        waiting = asyncio.create_task(reader.fetch())
        await asyncio.sleep(0)
        await bus.close()
        await asyncio.gather(*appending)
        with pytest.raises(BusError, match="closed"):
            await waiting
        with pytest.raises(BusError, match="closed"):
            await bus.append(stream(), b"late\n")
        await bus.close()
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert await numbers(bus) == list(range(100))
    assert not (tmp_path / "running").exists()


async def test_an_append_that_nobody_waits_for_any_more_disturbs_no_other(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        tasks = [asyncio.create_task(bus.append(stream(), b"%d\n" % number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        assert await numbers(bus) == [0, 1, 2]


# ---- room that comes back


async def test_what_the_store_has_is_deleted_and_offsets_go_on(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=SMALL) as bus:
        await append(bus, range(100))
        end = (await bus.bounds(PARTITION)).end
        group = bus.group()
        await group_fetches(group, 100)
        before = files(tmp_path)
        await synced(bus)
        await group.commit({PARTITION: end})
        assert await until(lambda: files(tmp_path) == before[-1:], what="old segments deleted")
        start = (await bus.bounds(PARTITION)).start
        assert start > 80
        with pytest.raises(OutOfRange):
            await bus.read(PARTITION, start - 1, 1)
        assert bus.journal.size == (tmp_path / before[-1]).stat().st_size
    async with LocalBus.open(tmp_path, partitions=8, settings=SMALL) as bus:
        assert await bus.bounds(PARTITION) == (start, end)
        assert await bus.watermark(PARTITION) == end
        assert (await bus.append(stream(), b"100\n")).offset == end
        assert await numbers(bus) == list(range(start, 101))


async def test_one_partition_that_is_behind_holds_the_files_it_needs(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=SMALL) as bus:
        await append(bus, range(10))
        other = stream("another app")
        first = await bus.append(other, b"needed\n")
        assert first.partition != PARTITION
        await append(bus, range(10, 100))
        before = files(tmp_path)
        await synced(bus)
        await bus.commit({PARTITION: 100})
        assert len(files(tmp_path)) >= len(before) - 1
        assert values((await bus.read(first.partition, first.offset, 1)).chunks) == [b"needed\n"]


async def test_the_newest_seconds_stay_for_readers_that_are_a_little_behind(tmp_path: Path):
    now = 1_800_000_000.0
    settings = LocalSettings(segment_bytes=2000, hold_back=10, sync_interval=0.01)
    async with LocalBus.open(tmp_path, partitions=8, settings=settings, clock=lambda: now) as bus:
        await append(bus, range(100))
        before = files(tmp_path)
        await synced(bus)
        now += 9
        await bus.commit({PARTITION: 100})
        assert files(tmp_path) == before
        now += 2
        await bus.commit({})
        await until(lambda: files(tmp_path) == before[-1:], what="old segments deleted")


async def test_a_reader_whose_place_was_deleted_is_told_and_goes_on_elsewhere(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=SMALL) as bus:
        await append(bus, range(100))
        await synced(bus)
        await bus.commit({PARTITION: 100})
        reader = bus.live()
        reader.watch(PARTITION, 0)
        with pytest.raises(OutOfRange) as refusal:
            await reader.fetch()
        reader.watch(PARTITION, refusal.value.start)
        (fetched,) = await reader.fetch()
        assert int(fetched.chunks[0].value) == refusal.value.start


async def test_a_journal_that_is_full_takes_fences_only_until_the_store_gets_on(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=SMALL) as bus:
        results = await asyncio.gather(
            *(bus.append(stream(), b"%d\n" % number) for number in range(300)), return_exceptions=True
        )
        taken = sum(isinstance(result, Cursor) for result in results)
        assert all(isinstance(result, BusError) and "journal is full" in str(result) for result in results[taken:])
        size = sum((tmp_path / name).stat().st_size for name in files(tmp_path))
        assert size == pytest.approx(SMALL.max_bytes, rel=0.1)  # the heads of segments are not foreseen
        assert await bus.fence(PARTITION) == taken
        await synced(bus)
        await bus.commit({PARTITION: taken})
        await append(bus, range(taken, taken + 1))
        assert (await numbers(bus))[-1] == taken


async def test_store_and_restarts_in_turn_lose_nothing(tmp_path: Path):
    settings = LocalSettings(segment_bytes=2000, hold_back=0, sync_interval=0.01)
    stored: list[int] = []
    for turn in range(5):
        async with LocalBus.open(tmp_path, partitions=8, settings=settings) as bus:
            group = bus.group()
            await append(bus, range(turn * 40, turn * 40 + 40))
            while len(stored) < turn * 40 + 23:
                (fetched,) = await group.fetch(300, DEADLINE)
                stored += map(int, values(fetched.chunks))
                await group.commit({PARTITION: fetched.next})
    assert stored == list(range(len(stored)))


# ---- room that runs out, and other faults of a disk


@pytest.mark.parametrize("segment_bytes", [3_000, 64 * 1024 * 1024], ids=["between segments", "within a segment"])
async def test_a_full_disk_refuses_and_takes_again_once_there_is_space(tmp_path: Path, segment_bytes: int):
    settings = LocalSettings(segment_bytes=segment_bytes)
    async with LocalBus.open(tmp_path, partitions=8, settings=settings) as bus:
        await append(bus, range(10))
        held = (tmp_path / files(tmp_path)[-1]).stat().st_size
        with files_at_most(held + 1500):
            big = [bus.append(stream(), b"%d%b\n" % (number, b" " * 500)) for number in range(10, 30)]
            results = await asyncio.gather(*big, return_exceptions=True)
            taken = 10 + sum(isinstance(result, Cursor) for result in results)
            refused = results[taken - 10 :]
            assert refused, "there was space for all"
            assert all(isinstance(result, BusError) and "no space left" in str(result) for result in refused)
            with pytest.raises(BusError, match=r"no space left for the journal in .*: free some"):
                await bus.append(stream(), b"x" * 3000)
            await append(bus, range(taken, taken + 1))  # a small one still fits
        await append(bus, range(taken + 1, 40), size=500)
        assert await numbers(bus) == list(range(40))
        assert bus._pending_bytes == 0
    async with LocalBus.open(tmp_path, partitions=8, settings=settings) as bus:
        assert await numbers(bus) == list(range(40))


async def test_without_space_for_a_new_segment_none_is_left_behind(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=LocalSettings(segment_bytes=300)) as bus:
        await append(bus, range(5), size=300)
        before = files(tmp_path)
        with files_at_most(100), pytest.raises(BusError, match="no space left"):
            await append(bus, range(5, 6))
        assert files(tmp_path) == before
        await append(bus, range(5, 10))
        assert await numbers(bus) == list(range(10))


async def test_a_segment_that_cannot_be_brought_back_stops_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(5))
        with monkeypatch.context() as patch, files_at_most(1500):
            patch.setattr(os, "ftruncate", failing)
            with pytest.raises(BusError, match="can't be brought back"):
                await append(bus, range(5, 6), size=2000)
        with pytest.raises(BusError, match="start again once the disk is sound"):
            await append(bus, range(5, 6))
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert await numbers(bus) == list(range(5))
        await append(bus, range(5, 10))
        assert await numbers(bus) == list(range(10))


async def test_a_commit_needs_no_space(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(10))
        size = (tmp_path / "watermarks").stat().st_size
        with files_at_most(size):
            await bus.commit({PARTITION: 7})
        assert (tmp_path / "watermarks").stat().st_size == size
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert await bus.watermark(PARTITION) == 7


async def test_a_watermark_does_not_go_back_nor_beyond_the_end(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(10))
        await bus.commit({PARTITION: 7})
        await bus.commit({PARTITION: 3})
        assert await bus.watermark(PARTITION) == 7
        with pytest.raises(OutOfRange):
            await bus.commit({PARTITION: 11})


@pytest.mark.parametrize("slot", [0, 1])
async def test_a_watermark_cut_short_leaves_the_one_before(tmp_path: Path, slot: int):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(10))
        await bus.commit({PARTITION: 6})
        await bus.commit({PARTITION: 7})
    with (tmp_path / "watermarks").open("r+b") as file:
        file.seek(slot * 4096 + 16)
        file.write(b"\xff" * 64)
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert await bus.watermark(PARTITION) == (6, 7)[slot]  # they are written in turn


async def test_unreadable_watermarks_are_told_and_the_store_begins_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(10))
        await bus.commit({PARTITION: 6})
    (tmp_path / "watermarks").write_bytes(bytes(8192))
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert "the watermarks in" in caplog.text
        assert await bus.watermark(PARTITION) == 0
        await bus.commit({PARTITION: 7})
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert await bus.watermark(PARTITION) == 7


async def test_a_disk_that_loses_what_it_took_stops_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(_: Segment) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    settings = LocalSettings(sync_interval=0.01)
    async with LocalBus.open(tmp_path, partitions=8, settings=settings) as bus:
        monkeypatch.setattr(Segment, "sync", failing)
        await append(bus, range(1))
        await until(lambda: bus._broken is not None)
        with pytest.raises(BusError, match=r"the disk refused .*Input/output error"):
            await append(bus, range(1, 2))


async def test_a_machine_that_went_down_leaves_offsets_unused(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await append(bus, range(10))
        note = (tmp_path / "running").read_bytes()
    (tmp_path / "running").write_bytes(note[::-1])  # as another boot would have left it
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert (await bus.append(stream(), b"10\n")).offset == 10 + GAP
        assert await numbers(bus) == list(range(11))
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        assert (await bus.append(stream(), b"11\n")).offset == 11 + GAP
