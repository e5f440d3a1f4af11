"""The loop from the bus into the store drops nothing, whatever fails, and says how it fares."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, NewerFormat, StoreAway, StoreError
from logsvc.model import AppId, Chunk
from logsvc.store.poison import FIRST_PAUSE, LONGEST_PAUSE
from logsvc.store.writer import StoreLoop
from tests.support.store import APPENDED, chunk_of, stream_of
from tests.support.wait import until

STREAM = stream_of(AppId("tenant", "app"))


def chunks(start: int, end: int, size: int = 1) -> list[Chunk]:
    return [chunk_of(STREAM, offset, b"x" * size, appended=APPENDED + offset) for offset in range(start, end)]


class MemoryReader:
    """A consumer group's only member, on records in memory."""

    def __init__(self) -> None:
        self.records: list[Fetched] = []
        self.committed: dict[int, int] = {}
        self.commits = 0
        self.fetch_error: BusError | None = None
        self.commit_error: BusError | None = None
        self._arrived = asyncio.Event()

    def append(self, records: list[Chunk], partition: int = 0, next_offset: int | None = None) -> None:
        end = records[-1].offset + 1 if next_offset is None else next_offset
        self.records.append(Fetched(partition, records, end))
        self._arrived.set()

    async def fetch(self, max_bytes: int, timeout: float) -> list[Fetched]:
        if self.fetch_error is not None:
            raise self.fetch_error
        try:
            async with asyncio.timeout(timeout):
                await self._arrived.wait()
        except TimeoutError:
            return []
        fetched: list[Fetched] = []
        while self.records and max_bytes > 0:
            fetched.append(self.records.pop(0))
            max_bytes -= sum(len(chunk.value) for chunk in fetched[-1].chunks)
        if not self.records:
            self._arrived.clear()
        return fetched

    async def commit(self, offsets: Mapping[int, int]) -> None:
        self.commits += 1
        if self.commit_error is not None:
            raise self.commit_error
        self.committed |= offsets

    async def close(self) -> None: ...


class MemoryStore:
    """Takes chunks unless `error` is set; refuses batches of more than `most` bytes."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.batches: list[int] = []
        self.recorded: dict[int, int] = {}
        self.error: StoreError | None = None
        self.most = 1 << 40
        self.tries = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def insert(self, batch: Sequence[Chunk]) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if sum(len(chunk.value) for chunk in batch) > self.most:
            raise StoreError("too much")
        self.chunks += batch
        self.batches.append(len(batch))

    async def record(self, epoch: int, watermarks: Mapping[int, int]) -> None:
        if self.error is not None:
            raise self.error
        assert epoch == 1
        self.recorded |= watermarks


class Bench:
    """A loop at work on a reader and a store in memory, and the pauses that it took."""

    def __init__(self, inserts: int = 1) -> None:
        self.reader, self.store = MemoryReader(), MemoryStore()
        self.pauses: list[float] = []
        self.loop = StoreLoop(
            self.reader,
            self.store,
            1,
            batch_bytes=100_000,
            batch_seconds=0.02,
            inserts=inserts,
            pause=self._take_a_pause,
        )

    async def _take_a_pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.loop.run())
    yield bench
    task.cancel()
    await asyncio.wait([task])


async def test_chunks_are_stored_then_committed_then_recorded(bench: Bench):
    bench.reader.append(chunks(0, 3))
    bench.reader.append(chunks(3, 5), partition=7)
    await until(lambda: bench.store.recorded == {0: 3, 7: 5})
    assert [chunk.offset for chunk in bench.store.chunks] == [0, 1, 2, 3, 4]
    assert bench.reader.committed == {0: 3, 7: 5}
    assert (bench.loop.state.chunks, bench.loop.state.error) == (5, None)


async def test_a_stop_inserts_and_commits_what_was_fetched():
    """Of the batch that is gathered, too, however young it is; nothing is inserted twice after a planned stop."""
    bench = Bench()
    bench.loop._batch_seconds = 1000.0
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.loop.run())
        bench.reader.append(chunks(0, 3))
        await until(lambda: not bench.reader.records)
        bench.loop.stop()
        await running
    assert [chunk.offset for chunk in bench.store.chunks] == [0, 1, 2]
    assert bench.reader.committed == bench.store.recorded == {0: 3}


async def test_a_stop_waits_for_what_is_being_inserted():
    bench = Bench(inserts=2)
    bench.store.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.loop.run())
        for offset in range(4):
            bench.reader.append(chunks(offset, offset + 1, 100_000))
        await until(lambda: bench.store.tries == 2)
        await until(lambda: len(bench.reader.records) == 1)
        bench.loop.stop()
        await until(lambda: bench.store.tries == 2)
        assert not running.done()
        bench.store.gate.set()
        await running
    assert [chunk.offset for chunk in bench.store.chunks] == [0, 1, 2]
    assert bench.reader.committed == bench.store.recorded == {0: 3}


async def test_what_comes_together_is_inserted_together(bench: Bench):
    for offset in range(20):
        bench.reader.append(chunks(offset, offset + 1))
    await until(lambda: len(bench.store.chunks) == 20)
    assert bench.store.batches == [20]


async def test_a_batch_is_bounded_however_much_waits(bench: Bench):
    for offset in range(50):
        bench.reader.append(chunks(offset, offset + 1, 10_000))
    await until(lambda: len(bench.store.chunks) == 50)
    assert max(bench.store.batches) == 10


async def test_at_most_one_batch_is_gathered_while_another_is_inserted(bench: Bench):
    bench.store.gate.clear()
    for offset in range(50):
        bench.reader.append(chunks(offset, offset + 1, 10_000))
    await until(lambda: len(bench.reader.records) == 30)
    assert bench.reader.committed == {}
    assert bench.loop.state.lag(APPENDED / 1000 + 9) == 9
    bench.store.gate.set()
    await until(lambda: bench.reader.committed == {0: 50})
    await until(lambda: bench.loop.state.lag(APPENDED / 1000 + 9) == 0)


async def test_batches_inserted_at_once_are_committed_in_order():
    bench = Bench(inserts=3)
    gates = [asyncio.Event() for _ in range(4)]
    stored: list[int] = []

    async def insert(batch: Sequence[Chunk]) -> None:
        await gates[batch[0].offset].wait()
        stored.append(batch[0].offset)

    bench.store.insert = insert  # type: ignore[method-assign]
    task = asyncio.create_task(bench.loop.run())
    for offset in range(5):
        bench.reader.append(chunks(offset, offset + 1, 100_000))
    await until(lambda: len(bench.reader.records) == 1)

    gates[1].set()
    gates[2].set()
    await until(lambda: stored == [1, 2])
    assert bench.reader.committed == {}
    assert bench.loop.state.lag(APPENDED / 1000 + 9) == 9

    gates[0].set()
    await until(lambda: bench.reader.committed == {0: 3})
    await until(lambda: bench.loop.state.lag((APPENDED + 3) / 1000 + 9) == 9)
    task.cancel()
    await asyncio.wait([task])


async def test_fences_alone_move_the_watermark(bench: Bench):
    bench.reader.append([], next_offset=9)
    await until(lambda: bench.store.recorded == {0: 9})
    assert bench.store.tries == 0


async def test_silence_commits_nothing(bench: Bench):
    bench.reader.append(chunks(0, 1))
    await until(lambda: bench.store.recorded == {0: 1})
    commits = bench.reader.commits
    bench.reader.append(chunks(1, 2))
    await until(lambda: bench.store.recorded == {0: 2})
    assert bench.reader.commits == commits + 1


async def test_a_store_that_is_away_is_tried_until_it_is_back(bench: Bench):
    bench.store.error = StoreAway("the store can't be reached")
    bench.reader.append(chunks(0, 3))
    await until(lambda: bench.store.tries >= 10)
    assert bench.loop.state.error == "the store can't be reached"
    assert bench.loop.state.failures >= 9
    assert bench.reader.committed == {}
    assert bench.pauses[:4] == [FIRST_PAUSE * 2**power for power in range(4)]
    assert max(bench.pauses) == LONGEST_PAUSE

    bench.store.error = None
    await until(lambda: bench.store.recorded == {0: 3})
    assert [chunk.offset for chunk in bench.store.chunks] == [0, 1, 2]
    assert (bench.loop.state.error, bench.loop.state.failures) == (None, 0)


async def test_a_batch_that_is_too_much_goes_in_pieces(bench: Bench):
    bench.store.most = 500_000
    bench.reader.append(chunks(0, 30, 100_000))
    await until(lambda: bench.reader.committed == {0: 30})
    assert [chunk.offset for chunk in bench.store.chunks] == list(range(30))


async def test_a_commit_that_fails_is_made_with_the_next_batch(bench: Bench):
    bench.reader.commit_error = BusError("the bus can't be reached")
    bench.reader.append(chunks(0, 3))
    await until(lambda: bench.loop.state.error == "the bus can't be reached")
    assert bench.store.recorded == {}
    bench.reader.commit_error = None
    await until(lambda: bench.store.recorded == {0: 3})
    assert bench.loop.state.error is None


async def test_a_record_of_a_newer_format_stops_the_loop():
    bench = Bench()
    bench.reader.fetch_error = NewerFormat("a record of format 9")
    with pytest.raises((NewerFormat, ExceptionGroup)) as caught:
        await bench.loop.run()
    assert "format 9" in repr(caught.value)


async def test_cancelled_at_any_moment_it_commits_only_what_is_stored():
    for turns in range(40):
        bench = Bench()
        task = asyncio.create_task(bench.loop.run())
        for offset in range(20):
            bench.reader.append(chunks(offset, offset + 1, 30_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        stored = {chunk.offset for chunk in bench.store.chunks}
        assert stored >= set(range(bench.reader.committed.get(0, 0)))
