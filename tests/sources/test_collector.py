"""What a collector knows after a crash: the newest place of each file, whoever remembers it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from logsvc.errors import BusError
from logsvc.model import Origin, Stream
from logsvc.sources.checkpoint import Checkpoint, Snapshot
from logsvc.sources.collector import Collector
from tests.sources.kubernetes.support import MemoryBus

STREAM = Stream("acme", "shop", "web", "web-1", "app", "u1-0")


def origin(end: int, file: str = "u1/web/0@abc", node: str = "node-1") -> Origin:
    return Origin(node, file, 0, end, 0, ())


class Rig:
    """A bus and a checkpoint that outlive their collectors."""

    def __init__(self, folder: Path) -> None:
        self.bus = MemoryBus()
        self.path = folder / "checkpoint"

    async def start(self, stored: Mapping[str, Origin] | None = None) -> Collector:
        async def origins(node: str) -> Mapping[str, Origin]:
            assert node == "node-1"
            return stored or {}

        collector = Collector(self.bus, "node-1", Checkpoint(self.path, "node-1"), None if stored is None else origins)
        await collector.recover()
        return collector

    def forget(self, partition: int, below: int) -> None:
        """The store has it: the bus lets go of everything below an offset."""
        self.bus.starts[partition] = below


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_what_was_acknowledged_is_known_again_by_the_checkpoint_alone(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    await collector.save()
    rig.forget(STREAM.app_id.partition(2), len(rig.bus.records[STREAM.app_id.partition(2)]))
    assert (await rig.start()).positions == {"u1/web/0@abc": origin(10)}


async def test_what_came_after_the_checkpoint_is_found_on_the_bus(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    await collector.save()
    await collector.append(STREAM, b"y", origin(20))
    assert (await rig.start()).positions["u1/web/0@abc"].end == 20


async def test_what_other_nodes_wrote_is_not_ours(rig: Rig) -> None:
    await rig.bus.append(STREAM, b"x", origin=origin(10, node="node-10"))
    await rig.bus.append(STREAM, b"x", origin=origin(10, node="node"))
    await rig.bus.append(STREAM, b"x")
    assert (await rig.start()).positions == {}


async def test_the_store_is_asked_where_the_bus_no_longer_reaches_back(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    partition = STREAM.app_id.partition(2)
    rig.forget(partition, len(rig.bus.records[partition]))
    stored = {"u1/web/0@abc": origin(10)}
    assert (await rig.start()).positions == {}
    assert (await rig.start(stored)).positions == stored


async def test_the_larger_position_wins_over_the_stores(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    await collector.append(STREAM, b"y", origin(20))
    assert (await rig.start({"u1/web/0@abc": origin(10)})).positions["u1/web/0@abc"].end == 20


async def test_a_checkpoint_does_not_pass_over_what_is_on_its_way(rig: Rig) -> None:
    collector = await rig.start()
    slow = asyncio.create_task(collector.append(STREAM, b"slow", origin(10, "slow")))
    rig.bus.goal = 0
    await rig.bus.reached.wait()
    # The slow one is on the bus before the other, and acknowledged to nobody.
    await collector.append(STREAM, b"fast", origin(10, "fast"))
    await collector.save()
    slow.cancel()
    assert {"slow", "fast"} <= (await rig.start()).positions.keys()


async def test_a_failed_append_is_looked_for(rig: Rig) -> None:
    collector = await rig.start()
    rig.bus.fail_at = {0: True}
    with pytest.raises(BusError):
        await collector.append(STREAM, b"x", origin(10))
    await collector.advance()
    await collector.save()
    await collector.recover()
    assert collector.positions["u1/web/0@abc"].end == 10
    assert (await rig.start()).positions["u1/web/0@abc"].end == 10


async def test_a_new_epoch_is_read_from_its_start(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    await collector.save()
    rig.bus = MemoryBus()
    rig.bus.epoch = 2
    await rig.bus.append(STREAM, b"x", origin=origin(20))
    assert (await rig.start()).positions["u1/web/0@abc"].end == 20


async def test_nothing_is_written_while_nothing_changes(rig: Rig) -> None:
    collector = await rig.start()
    await collector.append(STREAM, b"x", origin(10))
    await collector.save()
    rig.path.unlink()
    await collector.save()
    assert not rig.path.exists()


async def test_a_disk_that_refuses_the_checkpoint_stops_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    collector = await rig.start()
    rig.path.mkdir()
    await collector.append(STREAM, b"x", origin(10))
    await collector.save()
    assert "the checkpoint can't be written" in caplog.text
    rig.path.rmdir()
    await collector.save()
    assert rig.path.exists()


SNAPSHOT = Snapshot(3, {0: 5, 63: 2**40}, {"f": Origin("node-1", "f", 1, 2, 3, (("g", 4), ("f", 1)))})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "deep" / "checkpoint", "node-1")
    assert checkpoint.load() is None
    checkpoint.save(checkpoint.encode(SNAPSHOT))
    assert checkpoint.load() == SNAPSHOT


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_checkpoint_that_cannot_be_used_is_set_aside_with_a_message(
    tmp_path: Path, node: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint"
    checkpoint = Checkpoint(path, node)
    content = checkpoint.encode(SNAPSHOT)
    spoiled = [content[:at] for at in range(len(content) - 1)] if node == "node-1" else [content]
    spoiled += [content[:9] + b"x" + content[10:], b"", b"\0" * 100, b"12345678 {}"]
    for bad in spoiled:
        path.write_bytes(bad)
        assert Checkpoint(path, "node-1").load() is None
        assert not path.exists()
        assert (tmp_path / "checkpoint.corrupt").read_bytes() == bad
    assert "set aside as checkpoint.corrupt" in caplog.text
