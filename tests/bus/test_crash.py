"""`kill -9` at any moment: everything acknowledged is there after the restart, in order, exactly once."""

import asyncio
import random
import sys
from pathlib import Path

from logsvc.bus.local import LocalBus
from tests.bus.appender import SETTINGS, WRITERS
from tests.support.bus import APPS, PARTITIONS, partition_of, read_all
from tests.support.tally import Tally
from tests.support.wait import DEADLINE

ROUNDS = 20
ROOT = Path(__file__).parents[2]


async def killed_after(folder: Path, acknowledged: int, written: dict[str, int]) -> None:
    """Let the appender run until so many appends were acknowledged, then kill it; `written` gets what it was told."""
    appender = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bus.appender", folder, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert appender.stdout is not None
    async with asyncio.timeout(DEADLINE):
        lines = [await appender.stdout.readline() for _ in range(acknowledged)]
        appender.kill()
        lines += (await appender.stdout.read()).splitlines(keepends=True)
        await appender.wait()
    assert appender.returncode == -9
    for line in lines:
        if line.endswith(b"\n"):
            dyno, number = line.decode().split()
            written[dyno] = int(number) + 1


async def test_killed_at_random_moments_it_keeps_every_acknowledged_line_once_and_in_order(tmp_path: Path):
    chance = random.Random(7)
    written = dict.fromkeys(WRITERS, 0)
    for _ in range(ROUNDS):
        await killed_after(tmp_path, chance.randrange(1, 3000), written)

        tally = Tally()
        async with LocalBus.open(tmp_path, partitions=PARTITIONS, settings=SETTINGS) as bus:
            for partition in {partition_of(app) for app in APPS}:
                for chunk in await read_all(bus, partition):
                    tally.feed(chunk.value)
        assert tally.lost(written) == 0, "acknowledged lines are missing"
        # One append of a writer may have been written when its answer was cut off, not more.
        found = {dyno: tally.next(dyno) for dyno in WRITERS}
        assert all(found[dyno] - written[dyno] in {0, 1} for dyno in WRITERS)
        tally.check(found)
        written = found
    assert sum(written.values()) > ROUNDS * 200
