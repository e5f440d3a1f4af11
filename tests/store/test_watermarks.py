"""The watermark is the larger of what the bus and the store say, and one of them may be away."""

from collections.abc import Mapping

import pytest

from logsvc.errors import BusError, StoreAway
from logsvc.store.watermarks import watermark


class Side:
    """A bus and a store, as far as they know watermarks."""

    epoch = 3

    def __init__(self, committed: int | Exception, recorded: Mapping[int, int] | Exception) -> None:
        self.committed, self.recorded = committed, recorded

    async def watermark(self, partition: int) -> int:
        assert partition == 7
        if isinstance(self.committed, Exception):
            raise self.committed
        return self.committed

    async def watermarks(self, epoch: int) -> Mapping[int, int]:
        assert epoch == 3
        if isinstance(self.recorded, Exception):
            raise self.recorded
        return self.recorded


AWAY, LOST = StoreAway("the store can't be reached"), BusError("the bus can't be reached")


@pytest.mark.parametrize(
    ("committed", "recorded", "expected"),
    [
        (10, {7: 9}, 10),
        (10, {7: 12}, 12),
        (10, {6: 99}, 10),
        (10, {}, 10),
        (10, AWAY, 10),
        (LOST, {7: 12}, 12),
    ],
)
async def test_the_larger_one_is_the_newer(
    committed: int | Exception, recorded: Mapping[int, int] | Exception, expected: int
):
    side = Side(committed, recorded)
    assert await watermark(side, side, 7) == expected


@pytest.mark.parametrize(
    ("committed", "recorded", "raised"),
    [
        (LOST, AWAY, BusError),
        (LOST, {6: 99}, BusError),
        (ValueError("a bug"), {7: 1}, ValueError),
        (10, ValueError("a bug"), ValueError),
    ],
)
async def test_where_neither_can_be_had(
    committed: int | Exception, recorded: Mapping[int, int] | Exception, raised: type[Exception]
):
    side = Side(committed, recorded)
    with pytest.raises(raised):
        await watermark(side, side, 7)
