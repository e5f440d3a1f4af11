"""The watermark is the larger of what the bus and the store say, and one of them may be away."""

import asyncio
from collections.abc import Mapping

import pytest

from logsvc.bus.progress import progress
from logsvc.errors import BusError, StoreAway

AWAY, LOST = StoreAway("the store can't be reached"), BusError("the bus can't be reached")


async def told(what: Mapping[int, int] | Exception) -> Mapping[int, int]:
    if isinstance(what, Exception):
        raise what
    return what


@pytest.mark.parametrize(
    ("committed", "recorded", "expected"),
    [
        ({7: 10}, {7: 9}, {7: 10}),
        ({7: 10}, {7: 12}, {7: 12}),
        ({7: 10}, {6: 99}, {6: 99, 7: 10}),
        ({7: 10}, {}, {7: 10}),
        ({7: 10}, AWAY, {7: 10}),
        (LOST, {7: 12}, {7: 12}),
    ],
)
async def test_the_larger_one_is_the_newer(
    committed: Mapping[int, int] | Exception, recorded: Mapping[int, int] | Exception, expected: Mapping[int, int]
):
    assert await progress(told(committed), told(recorded)) == expected


@pytest.mark.parametrize(
    ("committed", "recorded", "raised"),
    [
        (LOST, AWAY, BusError),
        (ValueError("a bug"), {7: 1}, ValueError),
        ({7: 1}, ValueError("a bug"), ValueError),
    ],
)
async def test_where_neither_can_be_had(
    committed: Mapping[int, int] | Exception, recorded: Mapping[int, int] | Exception, raised: type[Exception]
):
    with pytest.raises(raised):
        await progress(told(committed), told(recorded))


async def test_nobody_waits_for_a_store_that_does_not_answer():
    silent: asyncio.Future[Mapping[int, int]] = asyncio.get_running_loop().create_future()
    assert await progress(told({7: 10}), silent) == {7: 10}
    assert silent.cancelled()
