"""What `logsvc dev` shows while it runs: every line from when it began until it is over."""

import asyncio
import io
import os
from collections.abc import Iterator
from time import gmtime

import pytest

from logsvc.console import Console, Screening, show
from logsvc.model import Chunk, Selection, Stream
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from tests.support.tiers import rig
from tests.support.wait import DEADLINE, until


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store")))
    yield store
    asyncio.run(store.close())


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.console.localtime", gmtime)


def selection(dyno: str, message: bytes, source: str = "app") -> Selection:
    stream = Stream("local", "demo", dyno.partition(".")[0], dyno, source, "uid:0")
    chunk = Chunk(1, 0, 0, 0, stream, b"2026-11-23T02:00:00.5Z stdout F %b\n" % message)
    return Selection(chunk, chunk.value, chunk.numbers)


async def test_it_shows_each_line_from_its_begin_to_its_end(store: Store) -> None:
    async with rig(store) as made:
        await made.write(3)
        out, screening = io.BytesIO(), Screening()
        showing = asyncio.create_task(show(made.timeline, made.router, out, screening))
        await screening.begun.wait()
        for _ in range(5):
            await made.write(2)
        await until(lambda: b"m12" in out.getvalue(), what="it has caught up")
        screening.over.set()
        await made.write(2)
        made.router.wake()
        async with asyncio.timeout(DEADLINE):
            await showing
        shown = [line.rpartition(b" | ")[2] for line in out.getvalue().splitlines()]
        assert shown == [line.message for line in made.lines[3:]]


async def test_where_nobody_reads_it_any_more_it_ends_quietly(store: Store) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with rig(store) as made:
        screening = Screening()
        out = os.fdopen(writing, "wb")
        showing = asyncio.create_task(show(made.timeline, made.router, out, screening))
        await screening.begun.wait()
        await made.write(1)
        async with asyncio.timeout(DEADLINE):
            await showing
        with pytest.raises(BrokenPipeError):
            out.close()


def test_a_line_has_its_time_and_its_dyno_in_columns() -> None:
    plain = Console(colours=False)
    assert plain.lines([selection("web.1", b"one"), selection("scheduler.12", b""), selection("web.1", b"two")]) == (
        b"02:00:00 web.1    | one\n02:00:00 scheduler.12 | \n02:00:00 web.1        | two\n"
    )


def test_each_process_type_has_a_colour_and_what_the_platform_says_is_dim() -> None:
    shown = Console(colours=True).lines(
        [selection("web.1", b"one"), selection("worker.1", b"two"), selection("web.2", b"three", "platform")]
    )
    first, second, third = shown.splitlines()
    assert first == b"\x1b[36m02:00:00 web.1    |\x1b[0m one\x1b[0m"
    assert second.startswith(b"\x1b[33m")
    assert third == b"\x1b[36m02:00:00 web.2    |\x1b[0m \x1b[2mthree\x1b[0m"
