"""The window: one interval of a partition, in memory, shared by all who watch."""

import asyncio
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logsvc.model import AppId, Chunk, Cursor, Stream
from logsvc.window import Feed, Window
from tests.support import until
from tests.support.wait import DEADLINE

APPS = [AppId("t", "a"), AppId("t", "b")]


def chunk(offset: int, app: int = 0, size: int = 10) -> Chunk:
    return Chunk(1, 0, offset, 0, Stream(*APPS[app], "web", "web.1", "app", "x"), b"x" * size)


def offsets(chunks: list[Chunk]) -> list[int]:
    return [one.offset for one in chunks]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1)), max_size=200), st.integers(0, 200), st.integers(0, 600)
)
async def test_a_window_holds_what_was_not_dropped(steps: list[tuple[int, int]], drops: int, at: int) -> None:
    window, offset = Window(5), 5
    held: list[tuple[int, int]] = []
    for gap, app in steps:
        offset += gap
        window.extend([chunk(offset, app)], offset + 1)
        held.append((offset, app))
    for _ in range(min(drops, len(held))):
        gone, _ = held.pop(0)
        window.drop_oldest()
        assert window.first == gone + 1
    assert len(window) == len(held)
    assert (window.size == 0) == (not held)
    assert window.next == (offset + 1 if steps else 5)
    for number, app in enumerate(APPS):
        mine = [where for where, of in held if of == number]
        assert offsets(window.chunks_before(app, at)) == [where for where in mine if where < at]
        feed = window.feeds.get(app)
        assert len(feed or ()) == len(mine)
        if feed is not None:
            assert offsets(feed.after(Cursor(1, 0, at, -1), 10**9)) == [where for where in mine if where >= at]
            assert feed.newest is None or feed.newest.offset == mine[-1]


async def test_the_memory_of_a_chunk_is_free_once_it_is_dropped() -> None:
    """However many apps have one that isn't due to be tidied yet."""
    window, chunks = Window(0), [chunk(offset, app=offset % 2) for offset in range(10)]
    held = sys.getrefcount(chunks[0])
    window.extend(chunks, 10)
    for _ in range(10):
        window.drop_oldest()
    assert [sys.getrefcount(one) for one in chunks] == [held + 1] * len(chunks)  # one for the loop's own name


async def test_a_step_is_about_as_large_as_asked_and_at_least_one_chunk() -> None:
    window = Window(0)
    window.extend([chunk(offset, size=100) for offset in range(10)], 10)
    feed = window.feed(APPS[0])
    assert offsets(feed.after(Cursor(1, 0, 3, -1), 1)) == [3]
    assert offsets(feed.after(Cursor(1, 0, 3, -1), 250)) == [3, 4, 5]


async def test_who_waits_is_woken_by_lines_of_its_app_alone() -> None:
    window = Window(0)
    feed, other = window.feed(APPS[0]), window.feed(APPS[1])
    feed.watchers = other.watchers = 1
    waiting, sleeping = asyncio.create_task(feed.changed()), asyncio.create_task(other.changed())
    await asyncio.sleep(0)
    window.extend([chunk(0)], 1)
    async with asyncio.timeout(DEADLINE):
        await waiting
    assert not sleeping.done()
    window.wake()
    async with asyncio.timeout(DEADLINE):
        await sleeping


async def test_a_burst_is_one_waking() -> None:
    feed = Feed(pace=0.01)
    feed.watchers = 1
    wakings = 0

    async def count() -> None:
        nonlocal wakings
        while True:
            await feed.changed()
            wakings += 1

    counting = asyncio.create_task(count())
    for offset in range(100):
        feed.append(chunk(offset))
    await until(lambda: wakings, what="the burst has woken the reader")
    assert wakings == 1
    counting.cancel()


async def test_frames_are_shared_until_there_is_more_to_read() -> None:
    feed = Feed()
    feed.remember("key", "frame")
    assert feed.frames == {"key": "frame"}
    feed.append(chunk(0))
    assert not feed.frames, "nobody is woken, so nobody may be told the old frame"
    feed.watchers = 1
    feed.remember("key", "frame")
    feed.append(chunk(1))
    await until(lambda: not feed.frames)
    for number in range(1000):
        feed.remember(number, "frame")
    assert len(feed.frames) < 1000


async def test_a_window_that_restarts_keeps_those_who_watch() -> None:
    window = Window(0)
    window.extend([chunk(0), chunk(1, app=1)], 2)
    feed = window.feed(APPS[0])
    feed.watchers = 1
    waiting = asyncio.create_task(feed.changed())
    await asyncio.sleep(0)
    window.restart(50)
    await waiting
    assert (window.first, window.next, window.size, len(window), len(feed)) == (50, 50, 0, 0, 0)
    window.extend([chunk(51)], 52)
    assert window.feed(APPS[0]) is feed
    assert offsets(feed.after(Cursor(1, 0, 50, -1), 100)) == [51]


@pytest.mark.parametrize("held", [False, True])
async def test_feeds_that_nobody_needs_go(held: bool) -> None:
    window = Window(0)
    for _ in range(2):
        window.feed(APPS[0]).watchers += 1
    if held:
        window.extend([chunk(0)], 1)
    window.leave(APPS[0])
    assert APPS[0] in window.feeds
    window.leave(APPS[0])
    assert (APPS[0] in window.feeds) == held
    if held:
        window.drop_oldest()
    assert not window.feeds
    window.close()
