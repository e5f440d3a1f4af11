"""Notices of what is lost, on a bus that fails just then: each is told once."""

import pytest

from tests.sources.kubernetes.support import Everybody, MemoryBus, Node
from tests.support import until


@pytest.mark.parametrize("kept", [False, True], ids=["not there", "there all the same"])
async def test_a_notice_that_the_bus_did_not_acknowledge_is_told_once(node: Node, *, kept: bool) -> None:
    """Of what was deleted while nobody looked, which is looked for at the start only."""
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    log = node.container()
    log.write(b"one")
    await node.collect()
    log.write(b"lost")
    log.rotate().unlink()
    log.write(b"three")
    bus.fail_at = {bus.appends: kept}
    await node.collect()
    assert node.said() == [b"one", b"three"]
    assert len(node.notices()) == 1


@pytest.mark.parametrize("kept", [False, True], ids=["not there", "there all the same"])
async def test_a_notice_of_what_was_given_up_is_told_once_though_the_bus_fails(node: Node, *, kept: bool) -> None:
    bus = node.bus
    assert isinstance(bus, MemoryBus)
    log = node.container()
    log.write(b"one")
    async with node.collecting(max_deleted_bytes=1000, rescan=0.02) as source:
        await source.drained()
        identity = node.identity
        assert isinstance(identity, Everybody)
        identity.known = False
        log.write(b"x" * 5000)
        log.delete()
        await until(lambda: source.lanes["acme_web-1_u1", "web"].series.losses)
        bus.fail_at = {bus.appends: kept}
        identity.known = True
        await until(lambda: not source.lanes)
    assert node.said() == [b"one"]
    assert len(node.notices()) == 1
