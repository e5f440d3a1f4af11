"""Who writes more than its plan allows waits in its own file: nothing is lost by it, and nobody else waits."""

import asyncio

from logsvc.model import AppId
from logsvc.sources.kubernetes.quota import Queue, Quota
from tests.sources.kubernetes.support import MemoryBus, Node, messages
from tests.support import until

MIB = 1 << 20


def test_a_rate_is_that_of_the_plan_and_burst_comes_at_once() -> None:
    plans = {"acme": "pro", "small": "free", "new": "nobody set that"}
    now = 0.0
    rates = {"free": 10, "standard": 100}
    quota = Quota(rates, 5, default="standard", plan=lambda tenant: plans.get(tenant, ""), now=lambda: now)
    for tenant, rate in {"small": 10, "new": 100, "acme": 100, "unknown": 100}.items():
        assert quota.wait(tenant) == 0
        quota.take(tenant, 5 * rate - 1)
        assert quota.wait(tenant) == 0
        quota.take(tenant, 10 * rate + 1)
        assert round(quota.wait(tenant)) == 10
    now = 11.0
    assert quota.wait("small") == 0


def test_without_a_rate_there_is_no_limit() -> None:
    for quota in (Quota({"free": 1}, plan=lambda _: "pro"), Quota()):
        quota.take("acme", 1 << 60)
        assert quota.wait("acme") == 0


async def test_those_who_wait_go_on_in_turn_and_who_left_is_not_called() -> None:
    rates = {"": 1.0}
    quota = Quota(rates)
    quota.take("acme", 1000)
    came: list[str] = []
    queue = Queue(quota, came.append)
    for name in ("a", "b", "c"):
        queue.add("acme", name)
    queue.discard("b")
    queue.discard("nobody")
    queue.add("other", "d")
    await until(lambda: came == ["d"], what="whose tenant has something left")
    assert "a" in queue
    assert len(queue) == 2
    rates[""] = 1e9
    await until(lambda: came == ["d", "a", "c"])
    assert len(queue) == 0


def quota(node: Node) -> dict[str, float]:
    """Have the tenant acme be over its quota after its first lines; the rates, to be changed."""
    rates = {"small": 1.0}
    node.quota = Quota(rates, plan=lambda tenant: "small" if tenant == "acme" else "")
    return rates


async def test_a_flood_waits_in_its_files_and_others_do_not_wait_for_it(node: Node) -> None:
    rates = quota(node)
    flood, sibling = node.container(), node.container(pod="web-2", uid="u2")
    other = node.container(uid="u3", tenant="other")
    async with node.collecting() as source:
        for number in range(3000):
            flood.write(b"flood %d %b" % (number, b"x" * 1000))
            if number % 1000 == 999:
                flood.rotate()
        await until(lambda: len(source.over_quota) == 1)
        held = len(node.said())
        assert held < 3000
        for number in range(10):
            other.write(b"line %d" % number)
            sibling.write(b"line %d" % number)
        others = AppId("other", "shop")
        assert isinstance(node.bus, MemoryBus)
        await until(lambda: len(messages(node.bus.chunks(others))) == 10)
        await until(lambda: len(source.over_quota) == 2)
        # It takes no time of anybody: nothing looks at its files while it waits.
        assert not source._active & {lane for lane in source.lanes.values() if lane in source.over_quota}
        assert len(node.said()) == held
        rates["small"] = 1e12
        await source.drained()
        assert len(source.over_quota) == 0
    said = node.said()
    assert [text.split()[1] for text in said if text.startswith(b"flood")] == [b"%d" % each for each in range(3000)]
    assert [text for text in said if text.startswith(b"line")] == [b"line %d" % number for number in range(10)]
    assert node.notices() == []


async def test_a_crash_while_lines_wait_loses_none(node: Node) -> None:
    rates = quota(node)
    log = node.container()
    log.write(*(b"%d %b" % (number, b"x" * 1000) for number in range(2000)))
    async with node.collecting(kill=True) as source:
        await until(lambda: len(source.over_quota) == 1)
    rates["small"] = 1e12
    await node.collect()
    assert [int(text.split()[0]) for text in node.said()] == [*range(2000)]


async def test_what_is_deleted_beyond_the_quota_is_told_with_its_bytes(node: Node) -> None:
    quota(node)
    log = node.container()
    log.write(*(b"x" * 1000 for _ in range(2000)))
    async with node.collecting(max_deleted_bytes=MIB, rescan=0.02) as source:
        await until(lambda: len(source.over_quota) == 1)
        (lane,) = source.lanes.values()
        lost = log.path.stat().st_size - lane.series.files[0].position
        log.delete()
        await until(node.notices, what="the notice, though the tenant is over its quota")
        await until(lambda: not source.lanes)
        await asyncio.sleep(0)
        assert len(source.over_quota) == 0
    assert node.notices() == [
        b"web-1: %d bytes of log were lost: the file was deleted, and too much of it was waiting to be read" % lost
    ]
