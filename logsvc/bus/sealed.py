"""An epoch that is over and stored: what is left of a bus when nobody needs its topic any more."""

from collections.abc import Mapping

from logsvc.bus.protocol import Bounds, Fetched
from logsvc.errors import OutOfRange


class Stored:
    """The `Records` of an epoch of which the store has every line: none."""

    def __init__(self, epoch: int, ends: Mapping[int, int]) -> None:
        self.epoch = epoch
        self.partitions = len(ends)
        self.sealed = ends

    async def bounds(self, partition: int) -> Bounds:
        return Bounds(self.sealed[partition], self.sealed[partition])

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:  # noqa: ARG002 - none fit any size
        """Nothing, at the end. Raises OutOfRange elsewhere."""
        end = self.sealed[partition]
        if offset != end:
            raise OutOfRange(partition, offset, end, end)
        return Fetched(partition, [], end)

    async def watermark(self, partition: int) -> int:
        return self.sealed[partition]
