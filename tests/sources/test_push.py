"""A post is taken once: wherever it broke off, its repetition goes on with the very next line of the chunk."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from logsvc.bus.local import LocalBus
from logsvc.errors import BusError
from logsvc.formats.pushed import JsonReader, Labels, Pushed
from logsvc.model import MAX_CHUNK, AppId, Chunk, Cursor, Origin, Stream
from logsvc.sources.push import CHECKED, KeyInUse, OtherBody, PushSource
from tests.support import until

APP = AppId("local", "demo")
LABELS = [Labels("web", "web.1"), Labels("worker", "worker.1")]


class NoStore:
    """A store that has nothing yet: what is asked of it in here is whether it knows a post."""

    def __init__(self) -> None:
        self.known: dict[str, Origin] = {}

    async def origins(self, node: str, files: Sequence[str] = ()) -> Mapping[str, Origin]:
        assert node == "push"
        return {file: self.known[file] for file in files if file in self.known}


class Failing:
    """The real bus, which takes so many chunks and then no more; or no chunk larger than `largest`."""

    def __init__(self, bus: LocalBus, chunks: int = 10**9, largest: int = MAX_CHUNK) -> None:
        self._bus = bus
        self.chunks, self.largest = chunks, largest
        self.going = asyncio.Event()
        self.going.set()
        self.waiting = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def named(self, name: str) -> "Failing":
        del name
        return self

    async def append(self, stream: Stream, value: bytes, **more: Any) -> Cursor:
        if self.chunks <= 0 or len(value) > self.largest:
            raise BusError("no more")
        self.chunks -= 1
        place = await self._bus.append(stream, value, **more)
        self.waiting += 1
        await self.going.wait()
        return place


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[LocalBus]:
    async with LocalBus.open(tmp_path, partitions=2) as bus:
        yield bus


async def chunks(bus: LocalBus) -> list[Chunk]:
    partition = APP.partition(bus.partitions)
    at, end = await bus.bounds(partition)
    found: list[Chunk] = []
    while at < end:
        _, some, at = await bus.read(partition, at, 1 << 20)
        found += some
    return found


async def source(bus: Any, store: NoStore | None = None) -> PushSource:
    return PushSource(bus, store or NoStore())  # type: ignore[arg-type]  # of a store it asks only that


def posted(sizes: Sequence[tuple[int, int]]) -> tuple[bytes, list[Pushed]]:
    """A body and its lines, each of so many lines of a chunk of 200 kB and of one of two processes."""
    body, lines = b"", []
    for number, (parts, which) in enumerate(sizes):
        body += b"%d:" % number + b"." * (parts * 7) + b"\n"
        value = b"".join(
            b"2026-11-23T02:00:00Z stdout F %d.%d %b\n" % (number, n, b"x" * 200_000) for n in range(parts)
        )
        lines.append(Pushed(LABELS[which], value, partial=False, end=len(body)))
    return body, lines


async def send(source: PushSource, body: bytes, lines: Sequence[Pushed], key: str | None = "key") -> None:
    async with source.post(APP, key) as post:
        post.take(body)
        await post.send([line for line in lines if line.end > post.start], len(body))
        post.finish()


SIZES = st.lists(st.tuples(st.sampled_from([1, 1, 2, 5, 9]), st.integers(0, 1)), min_size=1, max_size=4)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(SIZES, st.lists(st.integers(0, 3), max_size=4), st.booleans())
@example([(1, 0), (9, 0), (1, 0)], [2, 1], True)
@example([(9, 0)], [1, 1, 1], True)
@example([(1, 0), (1, 1), (9, 0)], [2, 1], False)
async def test_a_post_that_breaks_off_anywhere_goes_on_there(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], breaks: list[int], restart: bool
) -> None:
    """Even in the middle of a line that is many lines of the chunk; also when all that is known is what the bus has."""
    body, lines = posted(sizes)
    async with LocalBus.open(tmp_path_factory.mktemp("bus"), partitions=2) as bus:
        failing = Failing(bus)
        push = await source(failing)
        for taken in breaks:
            failing.chunks = taken
            try:
                await send(push, body, lines)
            except BusError:
                pass
            if restart:
                push = await source(failing)
        failing.chunks = 10**9
        await send(push, body, lines)
        await send(push, body, lines)
        assert b"".join(chunk.value for chunk in await chunks(bus)) == b"".join(line.value for line in lines)
        assert all(len(chunk.value) <= MAX_CHUNK for chunk in await chunks(bus))


async def test_a_refused_chunk_is_not_overtaken(bus: LocalBus) -> None:
    """The small line behind a large one that is refused would fit, and must wait."""
    body, lines = posted([(1, 0), (2, 1), (1, 0)])
    failing = Failing(bus, largest=300_000)
    push = await source(failing)
    with pytest.raises(BusError):
        await send(push, body, lines)
    assert [chunk.value for chunk in await chunks(bus)] == [lines[0].value]
    failing.largest = MAX_CHUNK
    await send(push, body, lines)
    assert [chunk.value for chunk in await chunks(bus)] == [line.value for line in lines]


async def test_who_goes_while_lines_are_appended_doubles_nothing_by_coming_again(bus: LocalBus) -> None:
    body, lines = posted([(1, 0), (1, 1)])
    failing = Failing(bus)
    failing.going.clear()
    push = await source(failing)
    sending = asyncio.create_task(send(push, body, lines))
    await until(lambda: failing.waiting == 2, what="both chunks are on their way")
    sending.cancel()
    await asyncio.sleep(0)
    with pytest.raises(KeyInUse):
        await send(push, body, lines)
    failing.going.set()
    await asyncio.wait([sending])
    assert sending.cancelled()
    await send(push, body, lines)
    assert len(await chunks(bus)) == 2


async def test_a_failure_after_the_client_has_gone_is_remembered_as_well(bus: LocalBus) -> None:
    body, lines = posted([(1, 0), (1, 1)])
    failing = Failing(bus, chunks=1)
    failing.going.clear()
    push = await source(failing)
    sending = asyncio.create_task(send(push, body, lines))
    await until(lambda: failing.waiting == 1)
    sending.cancel()
    failing.going.set()
    await asyncio.wait([sending])
    failing.chunks = 9
    await send(push, body, lines)
    assert [chunk.value for chunk in await chunks(bus)] == [line.value for line in lines]


async def test_only_the_end_of_a_body_is_held(bus: LocalBus) -> None:
    """Of blank lines nothing is sent, and nothing is kept."""
    push = await source(bus)
    async with push.post(APP, "key") as post:
        reader = JsonReader(LABELS[0], b"stdout", lambda: 0)
        for _ in range(20):
            lines = list(reader.feed(post.take(b"\n" * 1000)))
            await post.send(lines, reader.at)
            assert len(post._body) <= CHECKED
    async with push.post(APP, None) as post:
        assert post.take(b"x" * 1000) == b"x" * 1000
        assert not post._body


async def test_a_post_that_the_store_knows_is_known(bus: LocalBus) -> None:
    body, lines = posted([(1, 0), (1, 1)])
    await send(await source(bus), body, lines)
    [_, newest] = await chunks(bus)
    store = NoStore()
    store.known["local/demo/key"] = Origin.parse(newest.origin)
    await bus.group().commit({newest.partition: newest.offset + 1})
    push = await source(bus, store)
    await send(push, body, lines)
    assert len(await chunks(bus)) == 2
    with pytest.raises(OtherBody):
        await send(push, body[:-3] + b"!!\n", lines)
    with pytest.raises(OtherBody):
        await send(push, body[:-3], [])


async def test_only_so_many_posts_are_remembered(bus: LocalBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.sources.push._REMEMBERED", 2)
    push = await source(bus)
    body, lines = posted([(1, 0)])
    for key in ("a", "b", "c", "d"):
        await send(push, body, lines, key)
    assert list(push._known) == ["local/demo/b", "local/demo/c"]  # the newest is found on the bus when it is asked for


async def test_other_sources_are_left_alone(bus: LocalBus) -> None:
    stream = Stream(*APP, "web", "web.1", "app", "uid:0")
    await bus.append(stream, b"2026-11-23T02:00:00Z stdout F x\n", origin=Origin("node", "file", 0, 9))
    assert not (await source(bus))._known
