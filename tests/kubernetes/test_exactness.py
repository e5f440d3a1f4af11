"""Every line of real containers once and in order, whatever the kubelet does to their files and whoever is killed."""

import asyncio
import random
import time
from collections.abc import Mapping

import pytest

from tests.kubernetes.collecting import Collecting, writer
from tests.support import until

LABELS = {"app.kubernetes.io/name": "shop"}


async def complete(collecting: Collecting, *names: str) -> None:
    """Wait until the last line of each writer is on the bus, then hold that each came once and in order."""
    written = await until(lambda: collecting.written(*names), 180, what="the writers to be done")
    try:
        await came(collecting, written)
    finally:
        (await collecting.tally()).check(written)
    assert await collecting.differing() == []


async def came(collecting: Collecting, written: Mapping[str, int]) -> None:
    """Wait until the last line of each writer is on the bus."""

    async def complete() -> bool:
        return (await collecting.tally()).complete(written)

    await until(complete, 120, what="the last lines")


async def came_or_announced(collecting: Collecting, written: Mapping[str, int]) -> None:
    """Wait until every line is on the bus, or a notice says when it was lost; hold that each came once, in order."""

    async def complete() -> bool:
        return not await collecting.unannounced(written)

    try:
        await until(complete, 180, what="the last lines, or notices")
    except AssertionError as error:
        error.add_note(f"missing: {await collecting.unannounced(written)}; said: {await collecting.notices()}")
        raise
    tally = await collecting.tally()
    assert (tally.doubled, tally.misordered) == (0, 0)
    assert await collecting.differing() == []


async def followed(collecting: Collecting, *names: str) -> bool:
    """Whether there are lines of each writer."""
    tally = await collecting.tally()
    return all(tally.next(name) for name in names)


async def goes_on(collecting: Collecting, name: str) -> None:
    """Wait until more of a writer's lines are on the bus than now."""
    seen = (await collecting.tally()).next(name)

    async def more() -> bool:
        return (await collecting.tally()).next(name) > seen

    await until(more, 120, what=f"lines of {name} behind {seen}")


@pytest.mark.parametrize("collecting", ["files"], indirect=True)
async def test_rotation_half_lines_and_a_crash_loop(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        # The kubelet rotates at 1 MiB, so each of these sees several rotations.
        collecting.pod("steady", writer("steady", lines=40_000), labels=LABELS)
        collecting.pod("flood", writer("flood", lines=40_000, batch=4000, pad=400), labels=LABELS)
        collecting.pod("half", writer("half", lines=4_000, batch=100, pad=1500, half=100), labels=LABELS)
        collecting.pod("long", writer("long", lines=300, batch=20, pad=40_000), labels=LABELS)
        collecting.pod("crash", writer("crash", lines=200, crash=3), labels=LABELS)
        await until(lambda: (collecting.written("crash") or {}).get("crash", 0) >= 1000, 120, what="five crashes")
        collecting.kubectl("delete", "pod", "crash", "--wait")
        await complete(collecting, "steady", "flood", "half", "long", "crash")
    rotated = collecting.kubernetes.pods.glob(f"{collecting.namespace}_*/main/0.log.*")
    assert {path.parent.parent.name.split("_")[1] for path in rotated} >= {"steady", "flood", "half", "long"}
    assert await collecting.notices() == []


async def test_all_at_once_while_the_collector_is_killed_five_times(collecting: Collecting) -> None:
    """5,000 lines/s of ten pods, a flood, half lines, a crash loop, rolling updates and pods that are deleted."""
    collecting.begin()
    steady = [f"steady-{number}" for number in range(6)]
    rolling = writer("", batch=90, pause=90_000)
    rolling["env"][0] = {"name": "WRITER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    short: list[str] = []

    async def all_followed() -> bool:
        return await followed(collecting, *collecting.running())

    async with collecting.collector() as collector:
        await collector.start()
        for name in steady:
            collecting.pod(name, writer(name, batch=90, pause=90_000), labels=LABELS)
        collecting.pod("flood", writer("flood", lines=40_000, batch=2_000, pad=400, gate="go"), labels=LABELS)
        collecting.pod("half", writer("half", batch=50, half=1_000), labels=LABELS)
        collecting.pod("crash", writer("crash", lines=200, batch=50, crash=3), labels=LABELS)
        collecting.controlled("Deployment", "rolling", rolling, labels=LABELS)
        collecting.kubectl("wait", "--for=condition=Ready", "pod", *steady, "flood", "half", "--timeout=120s")
        await until(all_followed, 120, what="lines of each pod")
        (collecting.counts / "go").touch()
        begun, before = time.monotonic(), collecting.lines_written()
        for number in range(5):
            short.append(f"short-{number}")
            collecting.pod(short[-1], writer(short[-1], batch=90, pause=90_000), labels=LABELS)
            collecting.kubectl("wait", "--for=condition=Ready", "pod", short[-1], "--timeout=120s")
            if collecting.source == "api":
                # Nobody can tell of pods that came and went while nobody followed them.
                collecting.kubectl("rollout", "status", "deployment/rolling", "--timeout=120s")
                await until(all_followed, 120, what="lines of each pod")
            # So that it dies at any moment of whatever it does.
            await asyncio.sleep(random.uniform(0.0, 0.5))
            collector.kill()
            collecting.kubectl("rollout", "restart", "deployment/rolling")
            await collector.start()
            collecting.kubectl("delete", "pod", short[-1], "--wait=false")
        await until(lambda: (collecting.written("crash") or {}).get("crash", 0) >= 600, 120, what="three crashes")
        rate = (collecting.lines_written() - before) / (time.monotonic() - begun)
        collecting.kubectl("rollout", "status", "deployment/rolling", "--timeout=120s")
        if collecting.source == "api":
            await until(all_followed, 120, what="lines of each pod")
        collecting.kubectl("delete", "deployment/rolling", "pod/crash", "--wait", "--cascade=foreground")
        collecting.kubectl("wait", "--for=delete", "pod", "-l", "own=rolling", "--timeout=120s")
        (collecting.counts / "stop").touch()
        streams = await collecting.streams()
        dynos = {stream.dyno for stream in streams if stream.dyno.startswith("rolling-") and stream.source == "app"}
        rolled = {name for name in collecting.counted() if name.startswith("rolling-")} | dynos
        assert len(rolled) >= 2
        names = [*steady, "flood", "half", "crash", *rolled, *short]
        written = await until(lambda: collecting.written(*names), 180, what="the writers to be done")
        # Where the kubelet deletes files while there is no collector, a notice says that lines are missing.
        await came_or_announced(collecting, written)
    assert rate >= 5_000
    if collecting.source == "files":
        # The files of these were there all the time.
        unharmed = {f"{name}:".encode() for name in (*steady, "half")}
        assert [notice for notice in await collecting.notices() if notice.split(b" ", 4)[3] in unharmed] == []


@pytest.mark.parametrize("collecting", ["api"], indirect=True)
async def test_what_the_api_server_leaves_out_at_a_rotation_is_announced(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        collecting.pod("steady", writer("steady", lines=20_000, gate="go"), labels=LABELS)
        collecting.pod("half", writer("half", lines=4_000, batch=100, pad=1500, half=100, gate="go"), labels=LABELS)
        collecting.pod("long", writer("long", lines=300, batch=20, pad=40_000, gate="go"), labels=LABELS)
        names = ["steady", "half", "long"]
        # What was rotated away before anybody followed nobody can tell.
        await until(lambda: followed(collecting, *names), 120, what="the first lines")
        (collecting.counts / "go").touch()
        written = await until(lambda: collecting.written(*names), 180, what="the writers to be done")
        await came_or_announced(collecting, written)


async def flooded(collecting: Collecting) -> int:
    """How many lines of the flood came."""
    tally = await collecting.tally()
    return tally.lines - tally.next("steady")


async def test_who_is_over_its_quota_waits_alone_and_what_is_deleted_meanwhile_is_announced(
    collecting: Collecting,
) -> None:
    collecting.begin(plan="free")
    other = collecting.neighbour(plan="pro")
    limits = {"limits_collect_bytes": '{"free": 100000}', "limits_collect_burst": 1}
    async with collecting.collector(collect_max_deleted_bytes=1 << 20, **limits) as collector:
        await collector.start()
        collecting.pod("flood", writer("flood", lines=8_000, batch=2_000, pad=400, gate="go"), labels=LABELS)
        other.pod("steady", writer("steady", lines=4_000, batch=50, gate="go"), labels=LABELS)
        await until(lambda: followed(collecting, "flood", "steady"), 120, what="the first lines")
        (collecting.counts / "go").touch()
        # The flood takes 40 seconds.
        await came(collecting, await until(lambda: collecting.written("steady"), 180, what="the writer to be done"))
        written = await until(lambda: collecting.written("steady", "flood"), 180, what="the writers to be done")
        assert await flooded(collecting) < 6_000
        collecting.kubectl("delete", "pod", "flood", "--wait")
        await came_or_announced(collecting, written)
    told = {notice.split(b" ", 4)[3] for notice in await collecting.notices()}
    if collecting.source == "files":
        assert await flooded(collecting) < 6_000
        assert told == {b"flood:"}
    else:  # which goes on with a file that is gone, as long as somebody reads it
        assert told <= {b"flood:"}


async def test_the_last_lines_of_deleted_pods(collecting: Collecting) -> None:
    collecting.begin()
    names = [f"short-{number}" for number in range(5)]
    # What the API server leaves out at a rotation is another test's.
    speed = {"batch": 50, "pause": 100_000} if collecting.source == "api" else {}
    async with collecting.collector() as collector:
        await collector.start()
        for name in names:
            collecting.pod(name, writer(name, **speed), labels=LABELS)
        collecting.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        collecting.kubectl("delete", "pod", "--all", "--wait")
        await complete(collecting, *names)
    assert await collecting.notices() == []


async def test_a_collector_that_is_killed_five_times(collecting: Collecting) -> None:
    collecting.begin()
    steady = [f"steady-{number}" for number in range(4)]
    # The API server has nothing of what was rotated away while nobody followed: there the files stay below 1 MiB.
    speed = {"batch": 5, "pause": 50_000} if collecting.source == "api" else {}
    lines = 4_000 if collecting.source == "api" else 30_000
    async with collecting.collector() as collector:
        await collector.start()
        for name in steady:
            collecting.pod(name, writer(name, lines=lines, **speed), labels=LABELS)
        collecting.pod("half", writer("half", lines=3_000, batch=50, half=200), labels=LABELS)
        collecting.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        short = []
        for number in range(5):
            short.append(f"short-{number}")
            collecting.pod(short[-1], writer(short[-1], **speed), labels=LABELS)
            collecting.kubectl("wait", "--for=condition=Ready", "pod", short[-1], "--timeout=60s")
            # So that it dies at any moment of whatever it does.
            await asyncio.sleep(random.uniform(0.0, 0.5))
            collector.kill()
            await collector.start()
            if collecting.source == "api":  # which has nothing of a pod that is gone
                await goes_on(collecting, short[-1])
            collecting.kubectl("delete", "pod", short[-1], "--wait")
        await complete(collecting, *steady, "half", *short)
    assert await collecting.notices() == []
    assert {stream.process for stream in await collecting.streams()} == {*steady, "half", *short}
