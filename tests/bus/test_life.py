"""A bus lives a random life, beside a plain model: appends, fences, readers that come and go, commits, restarts."""

import random
from pathlib import Path

import pytest

from logsvc.bus.local import LocalBus, LocalSettings
from logsvc.bus.protocol import Fetched, GroupReader, LiveReader
from logsvc.errors import OutOfRange
from tests.support.bus import APPS, PARTITIONS, partition_of, stream
from tests.support.wait import until

SETTINGS = LocalSettings(segment_bytes=3000, recent_bytes=2000, hold_back=0, sync_interval=0.001)
STEPS = 120
RESTARTS = 4


class Life:
    """The model: what was appended, by partition and offset; where each reader stands."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.records: list[list[bytes | None]] = [[] for _ in range(PARTITIONS)]
        self.live: dict[int, int] = {}
        self.stored = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.seen = 0

    async def append(self, bus: LocalBus) -> None:
        for _ in range(self.chance.randrange(1, 6)):
            app = self.chance.choice(APPS)
            partition = partition_of(app)
            value = self.chance.randbytes(self.chance.choice((0, 10, 300, 2000)))
            cursor = await bus.append(stream(app), value)
            assert (cursor.partition, cursor.offset) == (partition, len(self.records[partition]))
            self.records[partition].append(value)

    async def fence(self, bus: LocalBus) -> None:
        partition = self.chance.randrange(PARTITIONS)
        assert await bus.fence(partition) == len(self.records[partition])
        self.records[partition].append(None)

    async def read(self, bus: LocalBus) -> None:
        partition = self.chance.randrange(PARTITIONS)
        start, end = await bus.bounds(partition)
        assert end == len(self.records[partition])
        assert start <= self.committed[partition]
        offset = self.chance.randint(start, end)
        try:
            self.check(await bus.read(partition, offset, self.chance.choice((1, 1000, 1 << 20))), offset)
        except OutOfRange as gone:
            self.check_gone(gone, offset)

    async def watch(self, bus: LocalBus, live: LiveReader) -> None:
        partition = self.chance.randrange(PARTITIONS)
        if self.chance.random() < 0.3:
            live.unwatch(partition)
            self.live.pop(partition, None)
        else:
            start, end = await bus.bounds(partition)
            self.live[partition] = self.chance.randint(start, end)
            live.watch(partition, self.live[partition])

    async def follow(self, live: LiveReader) -> None:
        if any(offset < len(self.records[partition]) for partition, offset in self.live.items()):
            try:
                for fetched in await live.fetch():
                    self.check(fetched, self.live[fetched.partition])
                    self.live[fetched.partition] = fetched.next
            except OutOfRange as gone:
                self.check_gone(gone, self.live[gone.partition])
                self.live[gone.partition] = gone.start
                live.watch(gone.partition, gone.start)

    async def store(self, group: GroupReader) -> None:
        if any(offset < len(records) for offset, records in zip(self.stored, self.records, strict=True)):
            for fetched in await group.fetch(self.chance.choice((1, 5000)), 5):
                self.check(fetched, self.stored[fetched.partition])
                self.stored[fetched.partition] = fetched.next

    async def commit(self, bus: LocalBus, group: GroupReader) -> None:
        self.committed = list(self.stored)
        await group.commit(dict(enumerate(self.stored)))
        for partition in range(PARTITIONS):
            assert await bus.watermark(partition) == self.committed[partition]

    def check_gone(self, gone: OutOfRange, offset: int) -> None:
        """That what can't be read was deleted, and rightly."""
        assert offset < gone.start <= self.committed[gone.partition]

    def check(self, fetched: Fetched, offset: int) -> None:
        """That what was fetched is what was appended from `offset` on."""
        span = range(offset, fetched.next)
        expected = [(at, self.records[fetched.partition][at]) for at in span]
        found = [(chunk.offset, chunk.value) for chunk in fetched.chunks]
        assert found == [(at, value) for at, value in expected if value is not None]
        self.seen += len(found)


@pytest.mark.parametrize("seed", range(8))
async def test_all_that_is_read_is_what_was_appended(tmp_path: Path, seed: int):
    life = Life(seed)
    for _ in range(RESTARTS):
        async with LocalBus.open(tmp_path, partitions=PARTITIONS, settings=SETTINGS) as bus:
            live, group = bus.live(), bus.group()
            life.live, life.stored = {}, list(life.committed)
            for _ in range(STEPS):
                match life.chance.randrange(8):
                    case 0 | 1:
                        await life.append(bus)
                    case 2:
                        await life.fence(bus)
                    case 3:
                        await life.read(bus)
                    case 4:
                        await life.watch(bus, live)
                    case 5:
                        await life.follow(live)
                    case 6:
                        await life.store(group)
                    case 7:
                        await life.commit(bus, group)
    async with LocalBus.open(tmp_path, partitions=PARTITIONS, settings=SETTINGS) as bus:
        group = bus.group()
        life.stored = list(life.committed)
        while life.stored != [len(records) for records in life.records]:
            await life.store(group)
        await life.commit(bus, group)
        await until(lambda: len(bus.journal.segments) == 1, what="all deleted but the newest segment")
    assert life.seen > STEPS
