"""What the source says of a file to whoever would delete it."""

import asyncio
import errno
import os

import pytest

from tests.sources.kubernetes.support import Node, compress
from tests.support import until
from tests.support.wait import DEADLINE


async def test_a_file_is_collected_once_the_bus_has_all_of_it(node: Node) -> None:
    """Whoever asks before deleting it, rotated and compressed or not, loses nothing."""
    log = node.container()
    log.write(b"one", b"two")
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert source.collected(log.path)
        rotated = log.rotate()
        log.write(b"three")
        log.raw(b"an unfinished li")
        assert not source.collected(log.path)
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert source.collected(rotated)
        assert not source.collected(log.path)
        packed = compress(rotated)
        assert source.collected(packed)
        assert not source.collected(rotated), "it is not there"
        assert not source.collected(log.folder / "7.log"), "nobody knows it"
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert source.collected(packed)


async def test_a_file_that_holds_a_part_of_an_unfinished_line_is_not_collected(node: Node) -> None:
    log = node.container()
    log.write(b"begun and ", tag="P")
    rotated = log.rotate()
    log.write(b"gone on ", tag="P")
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert not source.collected(rotated)
        assert not source.collected(log.path)
        log.write(b"with")
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert source.collected(rotated)
        assert source.collected(log.path)
    assert node.said() == [b"begun and gone on with"]


async def test_what_a_bus_that_fails_did_not_take_is_not_collected(node: Node) -> None:
    log = node.container()
    node.bus.full = True
    log.write(b"one")
    async with node.collecting() as source:
        await until(lambda: source.state.problem is not None)
        assert not source.collected(log.path)
        node.bus.full = False
        await asyncio.wait_for(source.drained(), DEADLINE)
        assert source.collected(log.path)


async def test_positions_of_files_that_are_on_no_disk_any_more_are_forgotten(node: Node) -> None:
    """Also where the checkpoint was lost and the bus tells of all files that there ever were."""
    log = node.container()
    for number in range(5):
        log.write(b"line %d" % number)
        await node.collect()
        log.rotate()
    rotated = sorted(log.folder.glob("0.log.*"))
    (node.settings.data / "checkpoint").unlink()
    for path in rotated[:3]:
        path.unlink()
    async with node.collecting(rescan=0.001) as source:
        await until(lambda: len(source.collector.positions) == 2)
        await source.drained()
        assert source.collected(rotated[3])
        assert source.collected(rotated[4])
    await node.collect()
    assert node.said() == [b"line %d" % number for number in range(5)]
    assert node.notices() == []


async def test_positions_are_kept_where_a_file_cannot_be_opened(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, and would be sent again."""
    log = node.container()
    log.write(b"one")
    log.rotate()
    log.write(b"two")
    await node.collect()
    (closed,) = log.folder.glob("0.log.*")
    opening = os.open

    def refuse(path: str, *args: int, **options: int) -> int:
        if path == closed.name:
            raise OSError(errno.EMFILE, "Too many open files")
        return opening(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("os.open", refuse)
        async with node.collecting(rescan=0.001) as source:
            # Behind each look for what is gone the cursors of the partitions move.
            advance, looks = source.collector.advance, []

            async def advanced() -> None:
                looks.append(len(source.collector.positions))
                await advance()

            patch.setattr(source.collector, "advance", advanced)
            await until(lambda: len(looks) > 2)
            assert set(looks) == {2}
    await node.collect()
    assert node.said() == [b"one", b"two"]
