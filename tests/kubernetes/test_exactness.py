"""Every line of real containers once and in order, whatever the kubelet does to their files and whoever is killed."""

import asyncio
import random
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


async def came(collecting: Collecting, written: Mapping[str, int]) -> None:
    """Wait until the last line of each writer is on the bus."""

    async def complete() -> bool:
        return (await collecting.tally()).complete(written)

    try:
        await until(complete, 120, what="the last lines")
    except AssertionError as error:
        tally = await collecting.tally()
        error.add_note(f"came and written: { {name: (tally.next(name), count) for name, count in written.items()} }")
        raise


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


@pytest.mark.parametrize("collecting", ["api"], indirect=True)
async def test_what_the_api_server_leaves_out_at_a_rotation_is_all_that_is_wrong(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        collecting.pod("steady", writer("steady", lines=20_000), labels=LABELS)
        collecting.pod("half", writer("half", lines=4_000, batch=100, pad=1500, half=100), labels=LABELS)
        collecting.pod("long", writer("long", lines=300, batch=20, pad=40_000), labels=LABELS)
        names = ["steady", "half", "long"]
        written = await until(lambda: collecting.written(*names), 180, what="the writers to be done")
        await came(collecting, written)
    tally = await collecting.tally()
    assert (tally.doubled, tally.misordered) == (0, 0), tally


async def test_the_last_lines_of_deleted_pods(collecting: Collecting) -> None:
    collecting.begin()
    names = [f"short-{number}" for number in range(5)]
    async with collecting.collector() as collector:
        await collector.start()
        for name in names:
            collecting.pod(name, writer(name), labels=LABELS)
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
        assert {stream.process for stream in await collecting.streams()} == {*steady, "half", *short}
    assert await collecting.notices() == []
