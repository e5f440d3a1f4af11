"""A search of what is in memory: however long it takes, others are served meanwhile."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from logsvc.legs import INLINE
from logsvc.model import EVERYTHING, Chunk, Filter, Selection
from logsvc.selection import Matcher
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from tests.support.reference import known
from tests.support.tiers import rig
from tests.support.wait import DEADLINE, until

ALL = Matcher(EVERYTHING)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store")))
    yield store
    asyncio.run(store.close())


async def test_a_search_of_the_window_leaves_others_their_turns(store: Store) -> None:
    """However many chunks it has, and though each is tested here: none takes long by itself."""
    async with rig(store) as made, made.router.watch(made.app):
        for _ in range(30):
            await made.write(1000)
        await made.window_is_full()
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.create_task(take_turns())
        assert not (await made.timeline.last(1, Matcher(Filter(grep_re=("^nothing",))), await made.timeline.end()))[0]
        others.cancel()
    assert turns >= 30 * 1000 * 1000 // INLINE


class Laborious(Matcher):
    """A pattern that takes until it is let go, as RE2 may take seconds for a long line."""

    def __init__(self) -> None:
        super().__init__(EVERYTHING)
        self.let_go = threading.Event()
        self.searching = 0

    def work(self, chunk: Chunk) -> int:  # noqa: ARG002 - whatever is in it
        return 1 << 30

    def select(self, chunk: Chunk, after: int = -1) -> Selection | None:
        self.searching += 1
        assert self.let_go.wait(DEADLINE), "nothing else goes on meanwhile"
        return super().select(chunk, after)


@pytest.mark.parametrize("watched", [False, True])
async def test_while_a_pattern_takes_long_others_are_served(store: Store, watched: bool) -> None:
    """Also those who search themselves: a tenant's searches take turns, and go on where nobody waits any more."""
    async with rig(store) as made, AsyncExitStack() as stack:
        if watched:
            await stack.enter_async_context(made.router.watch(made.app))
        for _ in range(3):
            await made.write(2)
        if watched:
            await made.window_is_full()
        slow, end = Laborious(), await made.timeline.end()
        reading = [asyncio.create_task(made.timeline.read(made.timeline.start, slow)) for _ in range(5)]
        reading.append(asyncio.create_task(made.timeline.last(6, slow, end)))  # type: ignore[arg-type]  # results differ
        await until(lambda: slow.searching == 1, what="the first search has begun")
        reading.pop(0).cancel()
        for _ in range(3):
            step = await made.timeline.read(made.timeline.start, ALL)
            assert [line for selection in step.selections for line in known(selection)] == made.lines
        assert slow.searching == 1, "one of a tenant at a time"
        slow.let_go.set()
        for result in await asyncio.gather(*reading):
            assert [line for selection in result.selections for line in known(selection)] == made.lines
