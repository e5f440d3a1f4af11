"""One chunk that the store refuses is set aside, and a store that refuses everything is waited for."""

import asyncio
from collections.abc import Sequence

from logsvc.config import ClickHouse as Settings
from logsvc.errors import BusError, StoreAway, StoreError
from logsvc.formats import cri
from logsvc.model import EVERYTHING, AppId, Chunk
from logsvc.store.engine import DISK_FULL, TooMuch, Unwell
from logsvc.store.poison import PROBE, TRIES, Inserter
from logsvc.store.server import ServerStore
from tests.support.store import END, chunk_of, messages_of, new_app, stream_of
from tests.support.wait import until

STREAM = stream_of(AppId("tenant", "app"))


class MoodyStore:
    """Takes chunks but those of which the text says that it must not; `errors` come first, one a try."""

    def __init__(self, errors: Sequence[StoreError] = (), reason: StoreError | None = None) -> None:
        self.errors = list(errors)
        self.reason = reason or StoreError("the store refused: POISON (code 1)")
        self.rows: dict[int, Chunk] = {}
        self.probes = 0
        self.sick: StoreError | None = None

    async def insert(self, chunks: Sequence[Chunk]) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if self.sick:
            raise self.sick
        if any(b"poison" in chunk.value for chunk in chunks):
            raise self.reason
        if PROBE in chunks:
            self.probes += 1
        else:
            self.rows |= {chunk.offset: chunk for chunk in chunks}

    async def record(self, epoch: int, watermarks: object) -> None: ...


class Bench:
    """An inserter on a store, with what it set aside and how long it would have waited."""

    def __init__(self, store: MoodyStore) -> None:
        self.store = store
        self.aside: list[tuple[Chunk, str]] = []
        self.bus_errors: list[BusError] = []
        self.pauses: list[float] = []
        self.notes: list[str | None] = []
        self.recovers_after: int | None = None

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self.recovers_after:
            self.store.sick = None
        await asyncio.sleep(0)

    async def set_aside(self, chunk: Chunk, reason: str) -> None:
        if self.bus_errors:
            raise self.bus_errors.pop(0)
        self.aside.append((chunk, reason))

    async def insert(self, chunks: Sequence[Chunk]) -> None:
        inserter = Inserter(
            self.store,
            pause=self.pause,
            note=lambda error: self.notes.append(str(error) if error else None),
            set_aside=self.set_aside,
        )
        await inserter.insert(chunks)


def batch(*texts: bytes) -> list[Chunk]:
    return [chunk_of(STREAM, offset, text) for offset, text in enumerate(texts)]


async def test_a_poisoned_chunk_is_set_aside_and_a_notice_stands_in_its_place():
    bench = Bench(MoodyStore())
    chunks = batch(*[b"fine"] * 40, b"poison", *[b"fine"] * 59)
    await bench.insert(chunks)

    assert bench.aside == [(chunks[40], "the store refused: POISON (code 1)")]
    assert sorted(bench.store.rows) == list(range(100))
    assert [bench.store.rows[at] for at in range(100) if at != 40] == [chunks[at] for at in range(100) if at != 40]
    notice = bench.store.rows[40]
    assert notice.stream.is_notice
    assert notice.stream.app_id == STREAM.app_id
    _, _, _, text = cri.parse(notice.value[:-1])
    assert text == b"1 line can't be kept here and was set aside: the store refused: POISON (code 1)"
    assert bench.notes[-1] is None


async def test_the_rest_does_not_wait_until_the_chunk_is_set_aside():
    bench = Bench(MoodyStore())
    stored_at_pause = []

    async def pause(_: float) -> None:
        stored_at_pause.append(len(bench.store.rows))

    bench.pause = pause  # type: ignore[method-assign]
    await bench.insert(batch(b"poison", b"fine", b"poison", b"fine"))
    assert stored_at_pause == [2] * (TRIES - 1)


async def test_a_batch_of_nothing_but_poison_is_set_aside():
    bench = Bench(MoodyStore())
    chunks = batch(*[b"poison"] * 9)
    await bench.insert(chunks)
    assert sorted(chunk.offset for chunk, _ in bench.aside) == list(range(9))
    assert all(chunk.stream.is_notice for chunk in bench.store.rows.values())


async def test_a_refusal_that_passes_sets_nothing_aside():
    bench = Bench(MoodyStore([TooMuch("too much")] * 5))
    await bench.insert(batch(b"a", b"b"))
    assert (sorted(bench.store.rows), bench.aside) == ([0, 1], [])


async def test_a_store_that_refuses_everything_is_waited_for():
    for reason in (StoreError("odd"), Unwell(DISK_FULL), StoreAway("away"), TooMuch("too much")):
        bench = Bench(MoodyStore())
        bench.store.sick, bench.recovers_after = reason, 50
        await bench.insert(batch(b"a", b"b", b"c"))
        assert (sorted(bench.store.rows), bench.aside) == ([0, 1, 2], [])
        assert len(bench.pauses) >= 50
        assert max(bench.pauses) <= 15


async def test_away_or_unwell_is_never_the_chunks_fault():
    for reason in (StoreAway("away"), Unwell(DISK_FULL)):
        bench = Bench(MoodyStore(reason=reason))
        inserting = asyncio.create_task(bench.insert(batch(b"poison")))
        await until(lambda bench=bench: len(bench.pauses) > 5 * TRIES)
        inserting.cancel()
        await asyncio.wait([inserting])
        assert (bench.aside, bench.store.probes) == ([], 0)


async def test_setting_aside_waits_for_the_bus():
    bench = Bench(MoodyStore())
    bench.bus_errors = [BusError("the bus can't be reached")] * 3
    await bench.insert(batch(b"poison"))
    assert len(bench.aside) == 1
    assert "the bus can't be reached" in bench.notes


async def test_a_notice_that_is_refused_as_well_stops_nothing():
    bench = Bench(MoodyStore(reason=StoreError("refused: poison")))
    await bench.insert(batch(b"poison", b"fine"))
    assert (sorted(bench.store.rows), len(bench.aside)) == ([1], 1)


async def test_the_real_engine_refuses_one_chunk_and_takes_the_rest(settings: Settings):
    store, app = ServerStore(settings), new_app()
    await store.migrate()
    await store._server.command("ALTER TABLE lines ADD CONSTRAINT c CHECK position(message, 'poison') = 0")
    aside: list[tuple[int, str]] = []

    async def set_aside(chunk: Chunk, reason: str) -> None:
        aside.append((chunk.offset, reason))

    async def pause(_: float) -> None: ...

    chunks = [chunk_of(stream_of(app), offset, b"fine", b"%d" % offset) for offset in range(30)]
    chunks[17] = chunk_of(stream_of(app), 17, b"one", b"poison", b"three")
    inserter = Inserter(store, pause=pause, note=lambda _: None, set_aside=set_aside)
    await inserter.insert(chunks)

    assert aside == [(17, "the store refused: VIOLATED_CONSTRAINT (code 469)")]
    notice = b"3 lines can't be kept here and were set aside: the store refused: VIOLATED_CONSTRAINT (code 469)"
    expected = [text for offset in range(30) for text in ([b"fine", b"%d" % offset] if offset != 17 else [notice])]
    assert messages_of(await store.before(app, END, EVERYTHING, 100)) == expected
    await store.close()
