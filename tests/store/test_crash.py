"""What was inserted survives `kill -9`, and what was half inserted is completed by inserting it again."""

import asyncio
import random
import sys
from pathlib import Path

from logsvc.model import EVERYTHING, Cursor
from logsvc.store.embedded import EmbeddedStore
from tests.store.inserter import APPS
from tests.support.store import END, messages_of
from tests.support.wait import DEADLINE

ROUNDS = 5


async def insert_until_killed(folder: Path, first: int, seed: int) -> int:
    """Kill an inserter in the middle of a batch; return the offset below which it said that everything is stored."""
    inserter = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.inserter", folder, str(first), str(seed), stdout=asyncio.subprocess.PIPE
    )
    assert inserter.stdout is not None
    done = first
    for _ in range(random.Random(seed).randint(2, 12)):
        async with asyncio.timeout(DEADLINE * 2):
            done = int(await inserter.stdout.readline())
    # The next batch is on its way by now: how far it gets is up to the machine, and differs from round to round.
    inserter.kill()
    rest = await inserter.stdout.read()
    await inserter.wait()
    return int(rest.split()[-1]) if rest.split() else done


async def test_kill_9_in_the_middle_of_inserts_loses_and_doubles_nothing(tmp_path: Path):
    folder, done = tmp_path / "store", 0
    for seed in range(ROUNDS):
        # As the bus does: what was not said to be stored comes again, and some of what was as well.
        done = await insert_until_killed(folder, max(0, done - 7 * seed), seed)

    store = await EmbeddedStore.open(folder)
    for number, app in enumerate(APPS):
        expected = [b"%d.%d" % (offset, line) for offset in range(number, done, 5) for line in range(20)]
        found, after, page_done = [], Cursor(1, 0, 0, -1), False
        while not page_done:
            page = await store.after(app, after, done, EVERYTHING, 5000)
            found += messages_of(page)
            after, page_done = page.chunks[-1].cursor(page.chunks[-1].numbers[-1]), page.done
        assert found == expected
        buckets = await store.volume(app, END._replace(offset=done, line=0), EVERYTHING, 1_000_000_000)
        assert sum(bucket.lines for bucket in buckets) == len(expected)
    await store.close()
