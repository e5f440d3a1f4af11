"""What the readers of a `KafkaBus` have in common: a consumer, and what it has fetched in small steps.

What aiokafka has fetched is unpacked in small steps, because a fetch of a few KiB may hold many MiB once it is
decompressed. Positions are kept by the readers, not taken from the consumer: they say what was returned.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka_by_id import read_by_id
from logsvc.bus.kafka_client import open_consumer
from logsvc.bus.kafka_records import decode
from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, NewerFormat

if TYPE_CHECKING:
    from logsvc.bus.kafka import KafkaBus

FETCH_BYTES: Final = 256 * 1024
"""Most compressed bytes of one partition that a broker is asked for at once; a larger batch comes whole."""
_FETCH_MOST: Final = 8 * 1024 * 1024
_MAX_WAIT_MS: Final = 50
"""For how long a broker may hold a fetch, and so the longest that a newly watched partition waits for its first."""
_STEP: Final = 64
"""Records unpacked at a time."""


async def reader(bus: "KafkaBus", **more: object) -> AIOKafkaConsumer:
    """A consumer of the bus' topic that has begun, and fetches as `Shares` wants it, but for what `more` says.

    Raises BusError.
    """
    fetching: dict[str, object] = {"fetch_max_wait_ms": _MAX_WAIT_MS, "fetch_max_bytes": _FETCH_MOST}
    consumer = await open_consumer(bus.settings, **fetching | more)
    read_by_id(consumer._client, bus.topic_id)  # noqa: SLF001 - it makes its own
    return consumer


class Shares:
    """What one fetch returns: of each partition a share, decoded from where that partition stands."""

    def __init__(self, bus: "KafkaBus", positions: dict[int, int], left: dict[int, deque[Any]], share: int) -> None:
        self._bus, self._positions, self._left, self._most = bus, positions, left, share
        self._fetched: dict[int, Fetched] = {}
        self._sizes: dict[int, int] = {}
        self.size = 0
        self.refused: NewerFormat | None = None
        """Set where a record of another version of logsvc was come to: it stays what is left, so nothing skips it."""

    def take(self, partition: int, records: Iterable[Any] = ()) -> None:
        """Decode what is left of a partition, and `records` behind that; what is beyond the share is left over."""
        left = self._left.setdefault(partition, deque())
        left.extend(records)
        room = self._most - self._sizes.get(partition, 0)
        if not left or room <= 0:
            return
        position = self._positions[partition]
        got = decode(self._bus.epoch, partition, left, position, room)
        while left and left[0].offset < got.next:
            left.popleft()
        self.add(partition, got.chunks, got.next)
        self._bus.count_foreign(got.foreign)
        if got.refused is not None:
            self.refused = got.refused

    def add(self, partition: int, chunks: list[Any], following: int) -> None:
        if following <= self._positions[partition]:
            return
        self._positions[partition] = following
        self._bus.seen(partition, following)
        known = self._fetched.get(partition)
        self._fetched[partition] = Fetched(partition, [*known.chunks, *chunks] if known else chunks, following)
        size = sum(len(chunk.value) for chunk in chunks)
        self._sizes[partition] = self._sizes.get(partition, 0) + size
        self.size += size

    @property
    def began(self) -> bool:
        """Whether there is anything to return."""
        return bool(self._fetched)

    async def take_directly(self) -> None:
        """Read each partition once without a consumer, which can't get past a record with headers that aren't text.

        Raises OffsetOutOfRangeError as a consumer does, BusError; only where there is nothing to return yet.
        """
        for partition, position in list(self._positions.items()):
            try:
                got = await self._bus.fetch_at(partition, position, self._most)
            except (OffsetOutOfRangeError, BusError) as error:
                if self.began:
                    return
                if isinstance(error, BusError):
                    raise
                raise OffsetOutOfRangeError({TopicPartition(self._bus.topic, partition): position}) from None
            if self._positions.get(partition) == position:
                self._bus.count_foreign(got.foreign)
                self.add(partition, got.chunks, got.next)
                self.refused = self.refused or got.refused

    def is_open(self, partition: int) -> bool:
        return not self._left.get(partition) and self._sizes.get(partition, 0) < self._most

    def result(self, held: Collection[int]) -> list[Fetched]:
        """All of partitions that are `held`."""
        return [fetched for partition, fetched in self._fetched.items() if partition in held]


class Unpacking:
    """Takes what a consumer has fetched. An error waits until what came before it was returned."""

    def __init__(self) -> None:
        self._error: KafkaError | UnicodeDecodeError | None = None

    async def unpack(
        self, consumer: AIOKafkaConsumer, shares: Shares, *places: TopicPartition, wait: float = 0.0
    ) -> Mapping[TopicPartition, list[Any]]:
        """The next few records; none after `wait` seconds. Raises what aiokafka does."""
        if self._error is not None and not shares.began:
            error, self._error = self._error, None
            raise error
        try:
            async with asyncio.timeout(wait + 0.01):  # it waits for a rebalance however long that takes
                got = await consumer.getmany(*places, timeout_ms=int(wait * 1000), max_records=_STEP)
        except TimeoutError:
            return {}
        except (KafkaError, UnicodeDecodeError) as error:
            if not shares.began:
                raise
            self._error = error
            return {}
        return dict(got)
