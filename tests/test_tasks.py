"""Questions asked together: whoever says yes first has answered them all."""

import asyncio

import pytest

from logsvc.errors import BusAway, StoreAway
from logsvc.tasks import any_of


async def says(answer: bool | Exception) -> bool:
    if isinstance(answer, Exception):
        raise answer
    return answer


async def never() -> bool:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_yes_waits_for_nobody_and_for_no_error():
    assert await any_of(never(), says(True))
    assert await any_of(says(StoreAway("the store is away")), says(True))
    assert await any_of(says(False), says(True))


async def test_a_no_is_everybodys():
    assert not await any_of(says(False), says(False))
    with pytest.raises(StoreAway):
        await any_of(says(StoreAway("the store is away")), says(False))
    with pytest.raises(BusAway):
        await any_of(says(False), says(BusAway("the bus is away")))
