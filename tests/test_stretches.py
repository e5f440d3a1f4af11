"""A search of more than one statement may read goes on in stretches: no line is missed, doubled or out of order."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from logsvc.errors import TooCostly
from logsvc.legs import between
from logsvc.model import Cursor, Filter
from logsvc.selection import Matcher
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import ReadLimits, Store
from logsvc.timeline import Timeline
from tests.support.reference import Known, known
from tests.support.tiers import Rig, rig

RARE = Matcher(Filter(grep=("rare",)))
LIMITS = ReadLimits(bytes=12_000_000)
"""Three times what the least stretch takes, as blocks of 4,096 lines are read whole, and a third of what there is."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store")))
    yield store
    asyncio.run(store.close())


@pytest.fixture
async def made(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """40 MB in the store, behind other apps' chunks, with a line here and there that passes."""
    monkeypatch.setattr("logsvc.legs.NEAR", 0)
    async with rig(store) as made:
        for _ in range(10):
            await made.write(1, app=made.neighbour)
        for number in range(96):
            await made.write(400, text="x" * 1000)
            if number % 16 == 0:
                await made.write(2, text="rare")
        await made.store_upto(await made.end())
        with pytest.raises(TooCostly):
            await made.store.limited(LIMITS).before(made.app, await made.timeline.end(), RARE.wanted, 100)
        made.timeline = Timeline(made.app, made.tiers, made.store.limited(LIMITS))
        yield made


def rare(made: Rig) -> list[Known]:
    return [line for line in made.lines if line.message.startswith(b"rare")]


async def test_the_last_lines_that_pass_are_found(made: Rig) -> None:
    for count in (1, 5, 100):
        newest, done, unsearched = await made.timeline.last(count, RARE, await made.timeline.end())
        assert [line for selection in newest for line in known(selection)] == rare(made)[-count:]
        assert (done, unsearched) == (True, None)


async def test_going_forward_meets_each_once(made: Rig) -> None:
    end = await made.timeline.end()
    found = [s async for s in between(made.timeline, made.timeline.start, end, RARE)]
    assert [line for selection in found for line in known(selection)] == rare(made)


async def test_whoever_has_no_patience_goes_on_where_the_search_ended(made: Rig) -> None:
    found: list[Known] = []
    upto: Cursor | None = await made.timeline.end()
    turns = 0
    while upto is not None:
        newest, done, unsearched = await made.timeline.last(100, RARE, upto, patience=0.0)
        found[:0] = [line for selection in newest for line in known(selection)]
        assert done
        assert unsearched is None or unsearched < upto
        upto, turns = unsearched, turns + 1
    assert found == rare(made)
    assert turns > 2


async def test_one_record_of_too_much_is_refused(made: Rig) -> None:
    made.timeline = Timeline(made.app, made.tiers, made.store.limited(ReadLimits(bytes=1000)))
    with pytest.raises(TooCostly, match="narrow it by time, process or dyno"):
        await made.timeline.last(1, RARE, await made.timeline.end())
    with pytest.raises(TooCostly, match="narrow it by time, process or dyno"):
        async for _ in between(made.timeline, made.timeline.start, await made.timeline.end(), RARE):
            pass
