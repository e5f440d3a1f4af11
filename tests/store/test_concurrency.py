"""Reads go on while inserts run at full speed, and the event loop never waits for the engine."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from logsvc.model import EVERYTHING, AppId, Chunk
from logsvc.store.embedded import EmbeddedStore
from tests.support.store import END, chunk_of, messages_of, new_app, stream_of

TURN = 0.001
"""Seconds between two looks at the clock."""


async def test_reads_and_the_event_loop_go_on_while_inserts_run(tmp_path: Path):
    store = await EmbeddedStore.open(tmp_path / "store")
    app, noisy = new_app(), new_app()
    await store.insert([chunk_of(stream_of(app), 0, b"quiet")])
    turns, reads, running = 0, 0, True

    async def turn() -> None:
        nonlocal turns
        while running:
            await asyncio.sleep(TURN)  # the loop's turns are what is counted
            turns += 1

    async def read() -> None:
        nonlocal reads
        while running:
            assert messages_of(await store.before(app, END, EVERYTHING, 10)) == [b"quiet"]
            reads += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(turn())
        for _ in range(4):
            tasks.create_task(read())
        begun = time.perf_counter()
        for number in range(5):
            await store.insert(big_batch(noisy, number))
        took = time.perf_counter() - begun
        seen = turns, reads
        running = False

    # Blocked for as long as the inserts took, the loop would have made five turns, one an insert.
    assert seen[0] > 20, f"{seen[0]} turns of the event loop in {took:.1f} s"
    assert seen[1] > 5, f"{seen[1]} reads in {took:.1f} s"
    await store.close()


def big_batch(app: AppId, number: int) -> list[Chunk]:
    """40,000 lines."""
    messages = [
        b"line %d of a noisy app, as long as lines are on average, which is more than 80 bytes" % n for n in range(400)
    ]
    return [chunk_of(stream_of(app), number * 100 + offset, *messages) for offset in range(100)]


async def test_closing_waits_for_the_insert_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = await EmbeddedStore.open(tmp_path / "store")
    app = new_app()
    started, engine_insert = asyncio.Event(), store._engine.insert

    async def noted_insert(table: str, columns: Sequence[str], rows: bytes) -> None:
        started.set()
        await engine_insert(table, columns, rows)

    monkeypatch.setattr(store._engine, "insert", noted_insert)
    insert = asyncio.create_task(store.insert(big_batch(app, 0)))
    await started.wait()
    await store.close()
    await insert

    store = await EmbeddedStore.open(tmp_path / "store")
    assert len(messages_of(await store.before(app, END, EVERYTHING, 100_000))) == 40_000
    await store.close()
