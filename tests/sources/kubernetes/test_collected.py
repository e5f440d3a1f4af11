"""What the source says of a file to whoever would delete it."""

import asyncio

from tests.sources.kubernetes.support import Node, compress
from tests.support import until


async def test_a_file_is_collected_once_the_bus_has_all_of_it(node: Node) -> None:
    """Whoever asks before deleting it, rotated and compressed or not, loses nothing."""
    log = node.container()
    log.write(b"one", b"two")
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), 20)
        assert source.collected(log.path)
        rotated = log.rotate()
        log.write(b"three")
        log.raw(b"an unfinished li")
        assert not source.collected(log.path)
        await asyncio.wait_for(source.drained(), 20)
        assert source.collected(rotated)
        assert not source.collected(log.path)
        packed = compress(rotated)
        assert source.collected(packed)
        assert not source.collected(rotated), "it is not there"
        assert not source.collected(log.folder / "7.log"), "nobody knows it"
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), 20)
        assert source.collected(packed)


async def test_a_file_that_holds_a_part_of_an_unfinished_line_is_not_collected(node: Node) -> None:
    log = node.container()
    log.write(b"begun and ", tag="P")
    rotated = log.rotate()
    log.write(b"gone on ", tag="P")
    async with node.collecting() as source:
        await asyncio.wait_for(source.drained(), 20)
        assert not source.collected(rotated)
        assert not source.collected(log.path)
        log.write(b"with")
        await asyncio.wait_for(source.drained(), 20)
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
        await asyncio.wait_for(source.drained(), 20)
        assert source.collected(log.path)
