"""The files source: every line of a container's files comes to the bus once, in order, or a notice does."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from logsvc import metrics
from logsvc.model import MAX_LINE
from logsvc.sources.kubernetes import podlogs
from tests.sources.kubernetes.support import Everybody, MemoryBus, Node, compress, timeless
from tests.support import cri_line, cri_parts, until


async def test_lines_come_to_the_bus_as_they_are_written(node: Node) -> None:
    log = node.container()
    async with node.collecting() as source:
        for number in range(20):
            log.write(b"line %d" % number)
            await source.drained()
            assert node.said()[-1] == b"line %d" % number
    assert len(node.said()) == 20


async def test_a_quiet_file_is_woken_by_its_next_write(node: Node) -> None:
    log = node.container()
    async with node.collecting(idle_after=0.001) as source:
        log.write(b"first")
        await source.drained()
        await until(lambda: not source._active, what="the file is left to the kernel")
        log.write(b"second")
        await until(lambda: node.said() == [b"first", b"second"])


async def test_rotated_files_are_drained_before_the_next(node: Node) -> None:
    log = node.container()
    expected = []
    async with node.collecting() as source:
        for number in range(30):
            log.write(b"line %d" % number)
            expected.append(b"line %d" % number)
            if number % 3 == 2:
                log.rotate()
        await source.drained()
    assert node.said() == expected


async def test_a_cold_start_reads_rotated_files_oldest_first_compressed_ones_too(node: Node) -> None:
    log = node.container()
    log.write(b"one", b"two")
    compress(log.rotate())
    log.write(b"three")
    compress(log.rotate())
    log.write(b"four")
    log.rotate()
    log.write(b"five")
    log.crash()
    log.write(b"six")
    await node.collect()
    assert node.said() == [b"one", b"two", b"three", b"four", b"five", b"six"]


async def test_a_file_that_was_compressed_meanwhile_goes_on_where_it_was(node: Node) -> None:
    log = node.container()
    log.write(b"one")
    await node.collect()
    log.write(b"two")
    compress(log.rotate())
    log.write(b"three")
    await node.collect()
    await node.collect()
    assert node.said() == [b"one", b"two", b"three"]
    assert node.notices() == []


@pytest.mark.parametrize("finished", [True, False], ids=["read and closed", "open"])
async def test_a_file_that_is_compressed_while_its_folder_is_listed_is_not_taken_for_a_new_one(
    node: Node, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    log = node.container()
    log.write(b"one", b"two")
    rotated = log.rotate()
    log.write(b"three")
    examined = os.stat

    def compressed_meanwhile(path: str, **how: Any) -> os.stat_result:
        if path == rotated.name and rotated.exists():
            compress(rotated)
        return examined(path, **how)

    async with node.collecting(rescan=0.02 if finished else 30) as source:
        await source.drained()
        (lane,) = source.lanes.values()
        await until(lambda: (lane.series.files[0].fd < 0) is finished)
        monkeypatch.setattr(os, "stat", compressed_meanwhile)
        log.rotate()
        log.write(b"four")
        await until(lambda: not rotated.exists())
        await until(lambda: any(file.name.compressed for file in lane.series.files))
        await source.drained()
    assert node.said() == [b"one", b"two", b"three", b"four"]


async def test_a_damaged_compressed_file_gives_what_it_has_and_a_notice_once(node: Node) -> None:
    log = node.container()
    log.write(*(os.urandom(8).hex().encode() for _ in range(2000)))
    packed = compress(log.rotate())
    packed.write_bytes(packed.read_bytes()[:-2000])
    log.write(b"after")
    await node.collect()
    await node.collect()
    assert 100 < len(node.said()) < 2002
    assert node.said()[-1] == b"after"
    assert node.notices() == [b"web-1: Lines may be missing here: a compressed log file is damaged"]


async def test_a_compressed_file_that_is_none_is_told_once(node: Node) -> None:
    log = node.container()
    (log.folder / "0.log.20261123-000001.gz").write_bytes(b"not gzip")
    log.write(b"after")
    await node.collect()
    await node.collect()
    assert node.said() == [b"after"]
    assert node.notices() == [b"web-1: Lines may be missing here: a compressed log file is damaged"]


async def test_a_file_that_holds_nothing_but_the_beginning_of_a_line_is_not_lost(node: Node) -> None:
    log = node.container()
    log.raw(b"2026-11-23T02:00:00Z stdout F cut he")
    log.rotate()
    log.rotate()
    log.write(b"after")
    await node.collect()
    await node.collect()
    assert node.said() == [b"cut he", b"after"]


async def test_a_deleted_pods_last_lines_arrive(node: Node) -> None:
    log = node.container()
    async with node.collecting() as source:
        log.write(b"one")
        await source.drained()
        log.write(b"two")
        log.delete()
        log.write(b"three")
        await until(lambda: node.said() == [b"one", b"two", b"three"])
        await until(lambda: not source.lanes, what="the deleted container is let go of")
        assert source.collector.positions == {}


async def test_a_deleted_pods_half_line_arrives_with_its_end(node: Node) -> None:
    log = node.container()
    async with node.collecting() as source:
        log.write(b"half a line ", tag="P")
        log.raw(b"2026-11-23T02:00:00Z stderr F cut he")
        await source.drained()
        log.delete()
        await until(lambda: not source.lanes, what="the deleted container is let go of")
    assert sorted(node.said()) == [b"cut he", b"half a line "]


async def test_lines_longer_than_a_part_are_joined_across_rotation_and_restart_of_the_source(node: Node) -> None:
    log = node.container()
    log.write(b"before")
    log.write(b"one ", tag="P")
    log.write(b"between", stream="stderr")
    await node.collect()
    log.rotate()
    log.write(b"two ", tag="P")
    log.write(b"between too", stream="stderr")
    await node.collect()
    compress(log.folder / "0.log.20261123-000001")
    log.write(b"three")
    await node.collect()
    assert node.said() == [b"before", b"between", b"between too", b"one two three"]


async def test_a_line_of_10_mb_arrives_whole_in_lines_that_go_on(node: Node) -> None:
    log = node.container()
    message = b"0123456789" * 1_000_000
    log.raw(cri_parts(1, "stdout", message))
    await node.collect()
    assert node.said() == [message]


async def test_garbage_is_kept_as_lines_and_does_not_stop_the_rest(node: Node) -> None:
    log = node.container()
    log.write(b"before")
    log.raw(b"not CRI at all\n\0\0\0\0\n\n2026-11-23T02:00:00Z stdout\n")
    log.write(b"after")
    await node.collect()
    assert node.said() == [
        b"before",
        b"not CRI at all",
        b"\0\0\0\0",
        b"",
        b"2026-11-23T02:00:00Z stdout",
        b"after",
    ]


async def test_a_hole_larger_than_any_line_survives_a_restart_inside_of_it(node: Node) -> None:
    log = node.container()
    log.write(b"before")
    log.raw(b"\0" * (3 * MAX_LINE))
    await node.collect()
    log.raw(b"\0" * 100 + b"\n")
    log.write(b"after")
    await node.collect()
    assert node.said() == [b"before", b"\0" * (3 * MAX_LINE + 100), b"after"]


async def test_a_huge_line_of_cri_survives_a_restart_inside_of_it(node: Node) -> None:
    log = node.container()
    message = bytes(range(32, 127)) * 10_000
    line = cri_line(1, "stderr", message)
    log.raw(line[: 2 * MAX_LINE + 100])
    await node.collect()
    log.raw(line[2 * MAX_LINE + 100 :])
    log.write(b"after", stream="stderr")
    await node.collect()
    assert node.said() == [message, b"after"]


async def test_times_that_run_backwards_change_nothing(node: Node) -> None:
    log = node.container()
    for number in range(10):
        log.raw(cri_line(10**18 - number * 10**12, "stdout", b"line %d" % number))
        if number == 5:
            log.rotate()
    await node.collect()
    assert node.said() == [b"line %d" % number for number in range(10)]


@pytest.mark.parametrize("hours", [1, -1])
async def test_clocks_that_jump_change_nothing(node: Node, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """The node's, which names rotated files and stamps lines, and the collector's, through kills of it."""
    log = node.container()
    written: list[bytes] = []
    for number in range(8):
        jump = hours * 3_600_000_000_000 * (number % 3 - 1)
        monkeypatch.setattr(podlogs, "time", SimpleNamespace(time_ns=lambda jump=jump: time.time_ns() + jump))
        log.time += jump
        async with node.collecting(kill=number % 2 == 0):
            for _ in range(3):
                written.append(b"line %d" % len(written))
                log.write(written[-1])
                await until(lambda: node.said() == written)
            log.rotations = 500 - hours * number
            log.rotate()
            written.append(b"line %d" % len(written))
            log.write(written[-1])
            await until(lambda: node.said() == written)
    await node.collect()
    assert node.said() == written
    assert node.notices() == []


async def test_a_truncated_file_begins_anew(node: Node) -> None:
    log = node.container()
    async with node.collecting() as source:
        log.write(b"one", b"two")
        await source.drained()
        os.truncate(log.path, 0)
        log.write(b"three")
        await until(lambda: node.said() == [b"one", b"two", b"three"])
    await node.collect()
    assert node.said() == [b"one", b"two", b"three"]
    assert node.notices() == []


async def test_bytes_lost_by_truncation_are_counted_in_a_notice_at_that_place(node: Node) -> None:
    log = node.container()
    log.write(b"one")
    async with node.collecting() as source:
        await source.drained()
        bus = node.bus
        assert isinstance(bus, MemoryBus)
        cut = b"2026-11-23T02:00:00Z stdout F never fini"
        log.raw(cut)
        await until(lambda: next(iter(source.lanes.values())).series.files[0].incomplete == len(cut))
        os.truncate(log.path, 0)
        log.write(b"two")
        await until(lambda: node.said() == [b"one", b"two"])
    await node.collect()
    assert node.notices() == [
        b"web-1: %d bytes of log were lost: the file was truncated before they were read" % len(cut)
    ]
    assert [chunk.stream.is_notice for chunk in bus.chunks()] == [False, True, False]


async def test_a_file_rewritten_while_nobody_looked_is_told(node: Node) -> None:
    log = node.container()
    first = log.line(b"one")
    log.raw(first + log.line(b"two"))
    await node.collect()
    os.truncate(log.path, 0)
    log.raw(first + log.line(b"a different line altogether") + log.line(b"more"))
    await node.collect()
    await node.collect()
    assert node.said() == [b"one", b"two", b"one", b"a different line altogether", b"more"]
    assert [timeless(notice) for notice in node.notices()] == [
        b"web-1: Lines may be missing here: a log file was written anew while it was not being read, between T1 and T2"
    ]


async def test_a_file_deleted_unread_while_nobody_looked_is_told_once(node: Node) -> None:
    log = node.container()
    log.write(b"one")
    await node.collect()
    log.write(b"lost")
    log.rotate().unlink()
    log.write(b"three")
    lost = metrics.collect_notices.labels("deleted")._value.get()
    await node.collect()
    await node.collect()
    assert node.said() == [b"one", b"three"]
    assert [timeless(notice) for notice in node.notices()] == [
        b"web-1: Lines may be missing here: a log file was deleted while it was not being read, between T1 and T2"
    ]
    assert metrics.collect_notices.labels("deleted")._value.get() == lost + 1


async def test_a_file_that_cannot_be_opened_now_is_read_when_it_can(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "0.log":
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, flags, mode, dir_fd=dir_fd)

    node.container().write(b"one")
    monkeypatch.setattr(os, "open", refuse)
    async with node.collecting():
        await until(lambda: "0.log can't be opened: Too many open files" in caplog.text)
        monkeypatch.setattr(os, "open", opened)
        await until(lambda: node.said() == [b"one"])


async def test_lines_wait_in_their_file_until_it_is_known_whose_they_are(node: Node) -> None:
    identity = node.identity
    assert isinstance(identity, Everybody)
    identity.known = False
    log = node.container()
    log.write(b"one")
    async with node.collecting(poll=3600) as source:
        await until(lambda: len(source._unknown) == 1)
        log.write(b"two")
        assert node.said() == []
        identity.known = True
        source.identities_changed()
        await source.drained()
    assert node.said() == [b"one", b"two"]


async def test_what_the_platform_says_stands_between_the_lines_of_the_app(node: Node) -> None:
    log = node.container()
    log.write(b"starting")
    log.write(b"State changed from starting to up", tag="F:platform")
    log.write(b"ready")
    await node.collect()
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    assert [chunk.stream.source for chunk in bus.chunks()] == ["app", "platform", "app"]
    assert node.said() == [b"starting", b"State changed from starting to up", b"ready"]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_failed_append_is_looked_for_and_nothing_is_lost_or_doubled(node: Node, at: int, kept: bool) -> None:
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    bus.fail_at = {at: kept}
    log = node.container()
    async with node.collecting() as source:
        for number in range(6):
            log.write(b"line %d" % number)
            if number % 2:
                log.write(b"part", tag="P")
            await source.drained()
        log.write(b"end")
        await source.drained()
        assert source.state.recoveries == 2
    assert b"".join(node.said()) == b"".join(
        [b"line 0line 1", b"partline 2", b"line 3", b"partline 4", b"line 5", b"partend"]
    )


async def test_a_full_bus_stops_the_reading_says_so_once_and_goes_on(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    log = node.container()
    async with node.collecting() as source:
        log.write(b"one")
        await source.drained()
        bus.full = True
        log.write(b"two")
        await until(lambda: source.state.problem is not None)
        assert source.state.problem == "the bus is full"
        log.write(b"three")
        bus.full = False
        await source.drained()
        await until(lambda: source.state.problem is None)
    assert node.said() == [b"one", b"two", b"three"]
    assert caplog.text.count("collection waits") == 1


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
async def test_a_lost_or_corrupt_checkpoint_is_made_up_for_by_the_bus(node: Node, spoil: Callable) -> None:
    log = node.container()
    log.write(b"one", b"two")
    await node.collect()
    spoil(node.settings.data / "checkpoint")
    log.write(b"three")
    await node.collect()
    assert node.said() == [b"one", b"two", b"three"]


async def test_ten_thousand_quiet_files_cost_no_task_and_no_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 10_000
    for number in range(count):
        folder = node.root / f"acme_web-{number}_u{number}" / "web"
        folder.mkdir(parents=True)
        (folder / "0.log").write_bytes(cri_line(number, "stdout", b"hello"))
    async with node.collecting(rescan=3600) as source:
        await source.drained()
        await until(lambda: not source._active)
        reads = 0
        pread = os.pread

        def counted(*args: int) -> bytes:
            nonlocal reads
            reads += 1
            return pread(*args)

        monkeypatch.setattr(os, "pread", counted)
        log = node.container()
        for number in range(10):
            log.write(b"busy %d" % number)
            await until(lambda number=number: b"busy %d" % number in node.said()[-1])
        await until(lambda: not source._active)
        if source.state.watch_problem is None:
            assert reads < 1000
        assert len(asyncio.all_tasks()) < 20
    assert len(node.said()) == count + 10
