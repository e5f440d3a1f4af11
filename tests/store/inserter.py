"""Inserts numbered chunks into a folder and says which it has inserted, until somebody kills it.

    python -m tests.store.inserter FOLDER FIRST SEED

Each line of stdout is the offset below which everything is on disk.
"""

import asyncio
import random
import sys
from pathlib import Path

from logsvc.model import AppId, Chunk
from logsvc.store.embedded import EmbeddedStore
from tests.support.store import APPENDED, chunk_of, stream_of

APPS = [AppId("tenant", f"app-{number}") for number in range(5)]


def numbered_chunk(offset: int) -> Chunk:
    """The chunk at an offset is the same in every run: 20 lines of one of five apps, some of the next day."""
    messages = [b"%d.%d" % (offset, line) for line in range(20)]
    day = 86_400_000 * (offset % 7 == 0)
    return chunk_of(stream_of(APPS[offset % 5]), offset, *messages, appended=APPENDED + day)


def say(done: int) -> None:
    sys.stdout.write(f"{done}\n")
    sys.stdout.flush()


async def insert_for_ever(folder: Path, first: int, seed: int) -> None:
    rng = random.Random(seed)
    store = await EmbeddedStore.open(folder)
    say(first)
    while True:
        size = rng.choice((1, 10, 200, 1000))
        await store.insert([numbered_chunk(offset) for offset in range(first, first + size)])
        first += size
        say(first)


if __name__ == "__main__":
    asyncio.run(insert_for_ever(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
