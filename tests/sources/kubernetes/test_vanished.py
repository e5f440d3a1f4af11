"""What is said of containers that went while nobody read their logs."""

from pathlib import Path

import pytest

from logsvc import metrics
from logsvc.model import Origin
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.transitions import Said, State, Step
from logsvc.sources.kubernetes.vanished import tell_vanished
from tests.sources.kubernetes.support import Everybody, MemoryBus, Node, messages, timeless
from tests.support import until

NODE = "node-1"
OLD, FILE = "u1/web/0@0123", "u1/web/1@4567"
NOTICE = b"web-1: Lines may be missing here: the pod was deleted while its log was not being read, "


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def collector(bus: MemoryBus, tmp_path: Path) -> Collector:
    """It has read of two runs of a container."""
    collector = Collector(bus, NODE, Checkpoint(tmp_path / "checkpoint", NODE))
    await collector.recover()
    collector.moved(Origin(NODE, OLD, 0, 10, 5))
    collector.moved(Origin(NODE, FILE, 0, 20, 5))
    return collector


@pytest.fixture
def everybody() -> Everybody:
    everybody = Everybody()
    everybody.stream("acme", "web-1", "u1", "web", 0)
    return everybody


def said(collector: Collector, run: int, step: Step) -> None:
    held = Said(State.UP, {"web": run * 4 + step}).encode()
    collector.moved(Origin(NODE, "u1/:pod", 0, 1, held=held))


async def told(collector: Collector, bus: MemoryBus, everybody: Everybody) -> list[bytes]:
    await tell_vanished(collector, [OLD, FILE], everybody, 10**18)
    assert not {OLD, FILE} & collector.positions.keys()
    return [timeless(notice) for notice in messages(bus.chunks(), notices=True)]


async def test_a_notice_for_each_container(collector: Collector, bus: MemoryBus, everybody: Everybody) -> None:
    lost = metrics.collect_notices.labels("pod_deleted")._value.get()
    assert await told(collector, bus, everybody) == [NOTICE + b"before T1"]
    assert metrics.collect_notices.labels("pod_deleted")._value.get() == lost + 1


async def test_it_says_when_somebody_read_last(collector: Collector, bus: MemoryBus, everybody: Everybody) -> None:
    collector.since = 10**18 - 10**9
    assert await told(collector, bus, everybody) == [NOTICE + b"between T1 and T2"]


async def test_it_says_when_the_last_line_was_written_where_that_is_known(
    collector: Collector, bus: MemoryBus, everybody: Everybody
) -> None:
    """Places may have been saved later, without the lines that were written between."""
    collector.since, last = 10**18 - 10**9, "2001-09-09T01:46:37.5Z"
    await tell_vanished(collector, [OLD, FILE], everybody, 10**18, lambda _: last)
    (notice,) = messages(bus.chunks(), notices=True)
    assert f"between {last} and ".encode() in notice


@pytest.mark.parametrize(("run", "step"), [(0, Step.EXITED), (1, Step.STARTED), (2, Step.STARTED)])
async def test_what_was_said_of_another_run_or_of_its_start_leaves_it_open(
    collector: Collector, bus: MemoryBus, everybody: Everybody, run: int, step: Step
) -> None:
    said(collector, run, step)
    assert await told(collector, bus, everybody) == [NOTICE + b"before T1"]


@pytest.mark.parametrize("step", [Step.EXITED, Step.PAUSING])
async def test_none_where_its_end_was_said(
    collector: Collector, bus: MemoryBus, everybody: Everybody, step: Step
) -> None:
    said(collector, 1, step)
    assert await told(collector, bus, everybody) == []


async def test_none_where_it_was_said_before(collector: Collector, bus: MemoryBus, everybody: Everybody) -> None:
    collector.moved(Origin(NODE, FILE, 20, 20, CLOSED))
    assert await told(collector, bus, everybody) == []


async def test_none_where_nobody_knows_whose_it_was(collector: Collector, bus: MemoryBus) -> None:
    assert await told(collector, bus, Everybody()) == []


@pytest.mark.parametrize("left", ["nothing", "the pod's folder", "the container's folder"])
async def test_what_may_be_missing_of_a_pod_deleted_while_nobody_looked_is_said_once(
    bus: MemoryBus, tmp_path: Path, caplog: pytest.LogCaptureFixture, left: str
) -> None:
    node = Node(tmp_path, bus)
    log = node.container()
    log.write(b"one")
    await node.collect()
    log.delete()
    # The kubelet removes the one after the other.
    if left != "nothing":
        (log.folder if left == "the container's folder" else log.folder.parent).mkdir(parents=True)
    async with node.collecting(kill=True) as source:
        await until(lambda: source.state.recoveries)
        assert source.collector.positions == {}
    async with node.collecting() as source:
        await until(lambda: source.state.recoveries)
    assert [timeless(notice) for notice in node.notices()] == [NOTICE + b"between T1 and T2"]
    assert "1 containers were deleted while their logs were not being read" in caplog.text
    node.close()
