"""Writers of numbered lines that recover from errors as the files source does, and the count of what came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from logsvc.bus.kafka import KafkaBus
from logsvc.errors import BusError, Sealed
from logsvc.model import Chunk, Origin
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from tests.support.bus import APPS, read_all, stream
from tests.support.tally import Tally, numbered

LINES = 7
"""Lines a chunk."""


class Load:
    """A collector of one node with writers in every partition, each with one chunk under way."""

    def __init__(self, bus: KafkaBus, folder: Path, node: str = "node-1", writers: int = 16) -> None:
        self.bus = bus
        self.collector = Collector(bus, node, Checkpoint(folder / f"{node}.json", node))
        self.recoveries = 0
        self._node = node
        self._writers = {f"{node}/{number}": APPS[number % len(APPS)] for number in range(writers)}
        self._stop = asyncio.Event()

    @property
    def written(self) -> dict[str, int]:
        """Lines that were acknowledged, by writer."""
        return {name: self._at(name) for name in self._writers}

    @property
    def lines(self) -> int:
        return sum(self.written.values())

    def _at(self, name: str) -> int:
        known = self.collector.positions.get(name)
        return known.end if known else 0

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Write until `stop`; after any error, find out what the bus has, and go on there."""
        while not self._stop.is_set():
            try:
                await self.collector.recover()
                async with asyncio.TaskGroup() as tasks:
                    for name in self._writers:
                        tasks.create_task(self._write(name))
            except* BusError:
                self.recoveries += 1
        while True:  # what was under way at the end may be on the bus
            try:
                return await self.collector.recover()
            except BusError:
                self.recoveries += 1

    async def until_sealed(self) -> None:
        """Write as fast as it goes, until the epoch takes no more."""
        await self.collector.recover()
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in self._writers:
                    tasks.create_task(self._write(name))
        except* Sealed:
            pass

    async def _write(self, name: str) -> None:
        while not self._stop.is_set():
            start = self._at(name)
            value = b"".join(b"2026-11-23T02:00:00Z stdout F %b\n" % numbered(name, start + n) for n in range(LINES))
            origin = Origin(self._node, name, start, start + LINES)
            await self.collector.append(stream(self._writers[name], name), value, origin)


@asynccontextmanager
async def loading(*loads: Load) -> AsyncIterator[None]:
    """Let them write; at the end of the block they stop, and know what was written."""
    async with asyncio.TaskGroup() as tasks:
        for load in loads:
            tasks.create_task(load.run())
        yield
        for load in loads:
            load.stop()


async def found(bus: KafkaBus) -> Tally:
    """What is on the bus."""
    tally = Tally()
    for partition in range(bus.partitions):
        feed(tally, await read_all(bus, partition))
    return tally


def feed(tally: Tally, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        tally.feed(chunk.value)
