"""Appends to a bus at full speed until it is killed. Says on standard output what was acknowledged.

Each writer goes on behind the newest number that the journal has of it, as a source does after a crash.
"""

import asyncio
import os
import sys
from pathlib import Path

from logsvc.bus.local import LocalBus, LocalSettings
from tests.support.bus import APPS, PARTITIONS, partition_of, read_all, stream

SETTINGS = LocalSettings(segment_bytes=200_000, sync_interval=0.05)
WRITERS = {f"web.{number}": APPS[number % len(APPS)] for number in range(20)}


async def write(bus: LocalBus, dyno: str, following: int) -> None:
    source = stream(WRITERS[dyno], dyno)
    for number in range(following, sys.maxsize):
        await bus.append(source, b"writer=%b seq=%d %b\n" % (dyno.encode(), number, b"x" * (number * 37 % 3000)))
        os.write(1, b"%b %d\n" % (dyno.encode(), number))


async def main() -> None:
    async with LocalBus.open(Path(sys.argv[1]), partitions=PARTITIONS, settings=SETTINGS) as bus:
        following = dict.fromkeys(WRITERS, 0)
        for partition in {partition_of(app) for app in APPS}:
            for chunk in await read_all(bus, partition):
                following[chunk.stream.dyno] = int(chunk.value.split(b" ")[1][4:]) + 1
        async with asyncio.TaskGroup() as group:
            for dyno, number in following.items():
                group.create_task(write(bus, dyno, number))


if __name__ == "__main__":
    asyncio.run(main())
