"""Readers and writers that meet in awkward moments."""

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.bus.segment import Segment
from logsvc.errors import BusError, OutOfRange
from tests.contract.bus import live_chunks
from tests.support.bus import APPS, partition_of, read_all, stream, values
from tests.support.wait import DEADLINE, until

PARTITION = partition_of("app")
OTHER = stream("another app")
OTHER_PARTITION = partition_of("another app")
FILES = LocalSettings(recent_bytes=0)


class Held:
    """Holds calls of a method of `Segment`, in whatever thread, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        method = getattr(Segment, name)

        def held(segment: Segment, argument: Sequence[object]) -> object:
            self.entered.set()
            assert self.go.wait(DEADLINE)
            return method(segment, argument)

        monkeypatch.setattr(Segment, name, held)


async def test_a_slow_disk_holds_up_appends_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await bus.append(stream(), b"0\n")
        disk = Held(monkeypatch, "write")
        appends = [asyncio.create_task(bus.append(stream(), b"%d\n" % number)) for number in range(1, 50)]
        await until(disk.entered.is_set)
        appends += [asyncio.create_task(bus.append(stream(), b"%d\n" % number)) for number in range(50, 100)]

        # Nobody sees what is not in the journal yet; all else goes on.
        assert values(await read_all(bus, PARTITION)) == [b"0\n"]
        await bus.commit({PARTITION: 1})
        assert not any(append.done() for append in appends)

        disk.go.set()
        await asyncio.gather(*appends)
        assert values(await read_all(bus, PARTITION)) == [b"%d\n" % number for number in range(100)]


async def test_a_partition_read_from_a_slow_disk_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with LocalBus.open(tmp_path, partitions=8, settings=LocalSettings(recent_bytes=2000)) as bus:
        await bus.append(stream(), b"long ago\n")
        for _ in range(5):
            await bus.append(OTHER, b"x" * 1000)
        disk = Held(monkeypatch, "read")
        reader = bus.live()
        reader.watch(PARTITION, 0)
        reader.watch(OTHER_PARTITION, 5)
        fetching = asyncio.create_task(reader.fetch())
        await until(disk.entered.is_set)
        await bus.append(OTHER, b"now\n")
        async with asyncio.timeout(DEADLINE):
            (fetched,) = await fetching
            assert values(fetched.chunks) == [b"now\n"]
            disk.go.set()
            (fetched,) = await reader.fetch()
            assert values(fetched.chunks) == [b"long ago\n"]


@pytest.mark.parametrize("again", [None, 1], ids=["unwatched", "moved"])
async def test_what_is_being_read_when_its_partition_is_left_is_not_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: int | None
):
    async with LocalBus.open(tmp_path, partitions=8, settings=FILES) as bus:
        for number in range(3):
            await bus.append(stream(), b"%d\n" % number)
        await bus.append(OTHER, b"other\n")
        disk = Held(monkeypatch, "read")
        reader = bus.live()
        reader.watch(PARTITION, 0)
        fetching = asyncio.create_task(reader.fetch())
        await until(disk.entered.is_set)
        reader.unwatch(PARTITION)
        if again is None:
            reader.watch(OTHER_PARTITION, 0)
        else:
            reader.watch(PARTITION, again)
        disk.go.set()
        async with asyncio.timeout(DEADLINE):
            (fetched,) = await fetching
        assert values(fetched.chunks) == ([b"other\n"] if again is None else [b"1\n", b"2\n"])


async def test_many_partitions_that_are_behind_all_get_their_turn(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=FILES) as bus:
        reader = bus.live()
        for app in APPS:
            await bus.append(stream(app), app.encode())
            reader.watch(partition_of(app), 0)
        assert sorted(values(await live_chunks(reader, len(APPS)))) == sorted(app.encode() for app in APPS)


async def test_an_offset_that_was_never_there_is_told_once_and_others_go_on(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        await bus.append(stream(), b"0\n")
        reader = bus.live()
        reader.watch(OTHER_PARTITION, 7)
        with pytest.raises(OutOfRange, match=f"offset 7 of partition {OTHER_PARTITION}"):
            await reader.fetch()
        reader.watch(PARTITION, 0)
        (fetched,) = await reader.fetch()
        assert values(fetched.chunks) == [b"0\n"]


async def test_a_segment_deleted_while_it_is_read_is_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its descriptor must not be closed under the reader: the number could be another file's by then."""
    async with LocalBus.open(tmp_path, partitions=8, settings=FILES) as bus:
        await bus.append(stream(), b"0\n")
        segment = bus.journal.segments[0]
        disk = threading.Event()
        pread = os.pread

        def deleting(fd: int, size: int, at: int) -> bytes:
            if not disk.is_set():
                segment.unlink()
                disk.set()
            return pread(fd, size, at)

        monkeypatch.setattr(os, "pread", deleting)
        assert values((await bus.read(PARTITION, 0, 1)).chunks) == [b"0\n"]
        assert disk.is_set()
        assert not segment.path.exists()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(segment.fd)
        with pytest.raises(OutOfRange):
            await bus.read(PARTITION, 0, 1)


async def test_a_journal_damaged_after_it_was_opened_is_named_to_whoever_reads_it(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8, settings=FILES) as bus:
        await bus.append(stream(), b"0\n")
        path = bus.journal.segments[0].path
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"!")
        with pytest.raises(BusError, match=path.name):
            await bus.read(PARTITION, 0, 1)
        reader = bus.live()
        reader.watch(PARTITION, 0)
        with pytest.raises(BusError, match=path.name):
            await reader.fetch()
        with pytest.raises(BusError, match=path.name):
            await bus.group().fetch(1, 1)
        with path.open("r+b") as file:
            file.truncate(10)
        with pytest.raises(BusError, match=path.name):
            await bus.read(PARTITION, 0, 1)


async def test_the_group_has_one_member_here(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        group = bus.group()
        with pytest.raises(BusError, match="group reader already"):
            bus.group()
        await group.close()
        waiting = asyncio.create_task(bus.group().fetch(1, DEADLINE))
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(BusError, match="closed"):
            await waiting


@pytest.mark.parametrize("partition", [-1, 8])
async def test_a_partition_that_does_not_exist_is_refused(tmp_path: Path, partition: int):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        with pytest.raises(ValueError, match=f"partition {partition} of 8"):
            await bus.read(partition, 0, 1)
        with pytest.raises(ValueError, match=f"partition {partition} of 8"):
            await bus.fence(partition)
        with pytest.raises(ValueError, match=f"partition {partition} of 8"):
            bus.live().watch(partition, 0)


async def test_keys_and_origins_beyond_all_measure_are_refused(tmp_path: Path):
    async with LocalBus.open(tmp_path, partitions=8) as bus:
        with pytest.raises(ValueError, match="key of 7"):
            await bus.append(stream("a" * 70_000), b"line\n")
