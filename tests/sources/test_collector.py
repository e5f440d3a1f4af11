"""What a collector knows after a crash, and in which order."""

from collections.abc import Mapping
from pathlib import Path

from logsvc.model import Origin
from logsvc.sources.checkpoint import Checkpoint, Snapshot
from logsvc.sources.collector import Collector
from tests.sources.kubernetes.support import MemoryBus

NODE = "node-1"


def read_to(file: str, end: int) -> Origin:
    return Origin(NODE, file, 0, end, 7)


async def recovered(folder: Path, checkpoint: Mapping[str, int], stored: Mapping[str, int]) -> dict[str, int]:
    """Where each file was read up to, in the order of `positions`, where the bus has let go of what was in it."""
    bus = MemoryBus(1)
    saved = Checkpoint(folder / "checkpoint", NODE)
    positions = {file: read_to(file, end) for file, end in checkpoint.items()}
    saved.save(saved.encode(Snapshot(bus.epoch, {0: 1}, positions)))
    bus.records[0] = [None] * 5
    bus.starts = [5]

    async def origins(node: str) -> Mapping[str, Origin]:
        assert node == NODE
        return {file: read_to(file, end) for file, end in stored.items()}

    collector = Collector(bus, NODE, saved, origins)
    await collector.recover()
    return {file: origin.end for file, origin in collector.positions.items()}


async def test_files_that_are_long_gone_do_not_count_as_the_newest(tmp_path: Path) -> None:
    found = await recovered(tmp_path, {"b": 100, "c": 50}, {"gone": 100, "a": 100, "b": 100, "c": 50})
    assert list(found) == ["gone", "a", "b", "c"]


async def test_what_the_store_has_from_after_the_checkpoint_is_the_newest(tmp_path: Path) -> None:
    found = await recovered(tmp_path, {"a": 100, "b": 50}, {"a": 100, "b": 80, "c": 9})
    assert list(found.items()) == [("a", 100), ("b", 80), ("c", 9)]


async def test_what_the_checkpoint_has_and_the_store_has_not_is_the_newest(tmp_path: Path) -> None:
    found = await recovered(tmp_path, {"a": 100, "b": 50}, {"a": 90})
    assert list(found.items()) == [("a", 100), ("b", 50)]
