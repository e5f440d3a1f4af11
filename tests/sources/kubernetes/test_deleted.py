"""Files that are deleted, or come back as others: what is held, what is given up, and what is known again."""

from tests.sources.kubernetes.support import Everybody, MemoryBus, Node, compress
from tests.support import until


async def test_an_inode_used_again_is_another_file(node: Node) -> None:
    log = node.container()
    async with node.collecting(rescan=0.01) as source:
        for number in range(20):
            log.write(b"line %d" % number)
            await source.drained()
            # Removed at once, so that the file system may give the number to the next one.
            log.rotate().unlink()
    assert node.said() == [b"line %d" % number for number in range(20)]
    assert node.notices() == []


async def test_a_file_that_was_found_empty_is_known_again_when_it_comes_back_compressed(node: Node) -> None:
    """A flood fills it, and it is rotated and compressed, between two looks."""
    log = node.container()
    async with node.collecting() as source:
        for number in range(5):
            log.write(b"line %d" % (2 * number))
            await source.drained()
            log.rotate()
            await source.drained()  # the next one is open, and nobody knows yet what is in it
            log.write(b"line %d" % (2 * number + 1))
            compress(log.rotate())
            await source.drained()
    assert node.said() == [b"line %d" % number for number in range(10)]
    assert node.notices() == []


async def test_deleted_files_that_hold_too_much_of_the_disk_are_given_up_with_a_notice(node: Node) -> None:
    log = node.container()
    log.write(b"one")
    async with node.collecting(max_deleted_bytes=1000, rescan=0.02) as source:
        await source.drained()
        identity = node.identity
        assert isinstance(identity, Everybody)
        identity.known = False
        log.write(b"x" * 5000)
        lost = log.path.stat().st_size - source.lanes["acme_web-1_u1", "web"].series.files[0].position
        log.delete()
        await until(lambda: source.state.deleted_bytes > 5000)
        await until(lambda: source.lanes["acme_web-1_u1", "web"].series.losses)
        identity.known = True
        await until(lambda: not source.lanes)
    assert node.said() == [b"one"]
    assert node.notices() == [
        b"web-1: %d bytes of log were lost: the file was deleted, and too much of it was waiting to be read" % lost
    ]


async def test_deleted_files_do_not_fill_the_disk_while_the_bus_is_away(node: Node) -> None:
    """Neither the one that was being read nor one that nobody has read a byte of."""
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    log = node.container()
    log.write(b"one")
    async with node.collecting(max_deleted_bytes=1000, rescan=0.02) as source:
        await source.drained()
        series = source.lanes["acme_web-1_u1", "web"].series
        bus.full = True
        log.write(b"x" * 5000)
        await until(lambda: not source.ready)
        known = log.rotate()
        await until(lambda: len(series.files) == 2)  # the new one is empty when it is found
        log.write(b"y" * 5000)
        unknown = log.rotate()
        lost = [len(known.read_bytes()) - series.files[0].position, len(unknown.read_bytes())]
        await until(lambda: len(series.files) == 3)
        for path in (known, unknown):
            path.unlink()
        await until(lambda: len(series.losses) == 2)
        await until(lambda: source.state.deleted_bytes == 0)
        bus.full = False
        log.write(b"two")
        await source.drained()
    assert node.said() == [b"one", b"two"]
    assert node.notices() == [
        b"web-1: %d bytes of log were lost: the file was deleted, and too much of it was waiting to be read" % each
        for each in lost
    ]
