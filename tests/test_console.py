"""What `logsvc dev` shows while it runs: every line from when it began until it is over."""

import asyncio
import io
import os
from collections.abc import Iterator
from time import gmtime

import pytest

from logsvc.console import Console, Screening, show
from logsvc.errors import StoreAway
from logsvc.legs import Step
from logsvc.model import Chunk, Cursor, Selection, Stream
from logsvc.selection import Matcher
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from logsvc.timeline import Timeline
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


def test_a_message_may_colour_the_terminal_and_do_nothing_else_to_it() -> None:
    message = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J\rbell\x07 \xff\ttab"
    shown = Console(colours=True).lines([selection("web.1", message)])
    assert shown.endswith(" \x1b[31mred\x1b[0m bell \ufffd\ttab\x1b[0m\n".encode())
    assert Console(colours=False).lines([selection("web.1", message)]).endswith(b" " + message + b"\n")


class Away:
    """A timeline whose lines are in a store that is away until it is told to be back."""

    def __init__(self, timeline: Timeline) -> None:
        self.app, self.end = timeline.app, timeline.end
        self.back = False
        self.tries = 0
        self._timeline = timeline

    async def read(self, at: Cursor, matcher: Matcher, end: Cursor | None = None) -> Step:
        self.tries += 1
        if not self.back:
            raise StoreAway("the store does not answer")
        return await self._timeline.read(at, matcher, end)


@pytest.mark.parametrize("back", [True, False])
async def test_it_waits_for_a_store_that_is_away(store: Store, monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    monkeypatch.setattr("logsvc.console._PAUSE", 0.001)
    async with rig(store) as made:
        out, screening, away = io.BytesIO(), Screening(), Away(made.timeline)
        showing = asyncio.create_task(show(away, made.router, out, screening))
        await screening.begun.wait()
        await made.write(2)
        await until(lambda: away.tries > 2)
        away.back = back
        if back:
            await until(lambda: b"m1" in out.getvalue())
        screening.over.set()
        made.router.wake()
        async with asyncio.timeout(DEADLINE):
            await showing
        assert out.getvalue().count(b"\n") == (2 if back else 0)
