"""Those who follow a `KafkaBus`: the router's reader and the store's. Each has a consumer of its own.

What aiokafka has fetched is unpacked in small steps, because a fetch of a few KiB may hold many MiB once it is
decompressed. Positions are kept here, not taken from the consumer: they say what was returned.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka_client import connection, unreachable
from logsvc.bus.kafka_records import decode
from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, NewerFormat

if TYPE_CHECKING:
    from logsvc.bus.kafka import KafkaBus

SHARE: Final = 1024 * 1024
"""Most bytes of values of one partition in one fetch."""
MOST: Final = 8 * 1024 * 1024
"""About the most bytes of values of all partitions in one `LiveReader.fetch`."""
_STEP: Final = 64
"""Records unpacked at a time."""
_FETCH_BYTES: Final = 256 * 1024
"""Most compressed bytes of one partition that a broker is asked for at once; a larger batch comes whole."""
_FETCH_MOST: Final = 8 * 1024 * 1024
_MAX_WAIT_MS: Final = 50
"""For how long a broker may hold a fetch, and so the longest that a newly watched partition waits for its first."""
_LOOK_UP: Final = 1.0
"""Seconds after which a reader that waits looks whether it was closed."""

logger = logging.getLogger(__name__)


class _Shares:
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
        known = self._fetched.get(partition)
        self._fetched[partition] = Fetched(partition, [*known.chunks, *chunks] if known else chunks, following)
        size = sum(len(chunk.value) for chunk in chunks)
        self._sizes[partition] = self._sizes.get(partition, 0) + size
        self.size += size

    @property
    def began(self) -> bool:
        """Whether there is anything to return."""
        return bool(self._fetched)

    def is_open(self, partition: int) -> bool:
        return not self._left.get(partition) and self._sizes.get(partition, 0) < self._most

    def result(self, held: Collection[int]) -> list[Fetched]:
        """All of partitions that are `held`."""
        return [fetched for partition, fetched in self._fetched.items() if partition in held]


class _Unpacking:
    """Takes what a consumer has fetched. An error waits until what came before it was returned."""

    def __init__(self) -> None:
        self._error: KafkaError | UnicodeDecodeError | None = None

    async def unpack(
        self, consumer: AIOKafkaConsumer, shares: _Shares, *places: TopicPartition, wait: float = 0.0
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


class KafkaLive:
    """A `LiveReader`. One `fetch` at a time. All partitions are assigned; those that nobody watches are paused.

    `fetch` raises OutOfRange where a position is no longer on the bus or was never there, and watches that partition
    no more. While brokers are away it waits.
    """

    def __init__(self, bus: "KafkaBus") -> None:
        self._bus = bus
        self._consumer: AIOKafkaConsumer | None = None
        self._places = [TopicPartition(bus.topic, partition) for partition in range(bus.partitions)]
        self._positions: dict[int, int] = {}
        self._left: dict[int, deque[Any]] = {}
        self._refused: NewerFormat | None = None
        self._unpacking = _Unpacking()
        self._closed = False

    def watch(self, partition: int, offset: int) -> None:
        """See `LiveReader.watch`. An offset that isn't there is an error of the next `fetch`."""
        self._bus.check(partition)
        self._left.pop(partition, None)
        self._refused = None
        self._positions[partition] = offset
        if self._consumer is not None:
            self._consumer.seek(self._places[partition], offset)
            self._consumer.resume(self._places[partition])

    def unwatch(self, partition: int) -> None:
        """See `LiveReader.unwatch`."""
        self._left.pop(partition, None)
        self._refused = None
        if self._positions.pop(partition, None) is not None and self._consumer is not None:
            self._consumer.pause(self._places[partition])

    async def fetch(self) -> list[Fetched]:
        """See `LiveReader.fetch`. Raises OutOfRange, NewerFormat; BusError where the reader is closed."""
        await asyncio.sleep(0)  # a turn for the others, however much there is to read
        if self._consumer is None:
            await self._start()
        while True:
            if self._closed or self._consumer is None:
                raise BusError("the reader is closed")
            if self._refused is not None:
                raise self._refused
            try:
                shares = await self._take(self._consumer)
                self._refused = shares.refused
                result = shares.result(self._positions)
                if result:
                    return result
                if self._refused is None:
                    await self._wait(self._consumer)
            except OffsetOutOfRangeError as error:
                await self._out_of_range(error)
            except ConsumerStoppedError:
                continue
            except UnicodeDecodeError:
                return await self._directly()
            except KafkaError as error:
                self._restart()
                raise BusError(f"Kafka can't be read: {error}") from error

    async def _start(self) -> None:
        consumer = AIOKafkaConsumer(
            **connection(self._bus.settings),
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_MAX_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_FETCH_MOST,
        )
        try:
            await consumer.start()
        except BaseException as error:
            await consumer.stop()
            if isinstance(error, KafkaError):
                raise await unreachable(self._bus.settings) from error
            raise
        if self._closed:
            await consumer.stop()
            return
        consumer.assign(self._places)
        for place in self._places:
            consumer.seek(place, self._positions.get(place.partition, 0))
        consumer.pause(*(place for place in self._places if place.partition not in self._positions))
        self._consumer = consumer

    async def _take(self, consumer: AIOKafkaConsumer) -> _Shares:
        """A share of each watched partition, of what has arrived."""
        shares = _Shares(self._bus, self._positions, self._left, SHARE)
        for partition in list(self._left):
            shares.take(partition)
        while shares.size < MOST and shares.refused is None:
            places = [self._places[partition] for partition in self._positions if shares.is_open(partition)]
            got = await self._unpacking.unpack(consumer, shares, *places) if places else {}
            if not got:
                break
            for place, records in got.items():
                if place.partition in self._positions:
                    shares.take(place.partition, records)
        return shares

    async def _wait(self, consumer: AIOKafkaConsumer) -> None:
        got = await consumer.getmany(timeout_ms=int(_LOOK_UP * 1000), max_records=1)
        for place, records in got.items():
            if place.partition in self._positions:
                self._left.setdefault(place.partition, deque()).extend(records)

    async def _out_of_range(self, error: OffsetOutOfRangeError) -> None:
        ((place, offset),) = error.args[0].items()
        self._restart()  # what was unpacked before the error came is lost
        try:
            reason = await self._bus.out_of_range(place.partition, offset)
        except BusError:
            if self._bus.stopped:
                raise
            return  # brokers are away: the error comes again when they are back
        if self._positions.get(place.partition) == offset:
            self.unwatch(place.partition)
            raise reason

    def _restart(self) -> None:
        """Read on from what was returned last."""
        for partition, position in list(self._positions.items()):
            self.watch(partition, position)

    async def _directly(self) -> list[Fetched]:
        """Read once without the consumer, which can't get past a record with headers that aren't text."""
        shares = _Shares(self._bus, self._positions, self._left, SHARE)
        for partition, position in list(self._positions.items()):
            got = await self._bus.queries.fetch(self._bus.epoch, self._bus.topic, partition, position, SHARE)
            if self._positions.get(partition) == position:
                self._bus.count_foreign(got.foreign)
                shares.add(partition, got.chunks, got.next)
        self._restart()
        return shares.result(self._positions)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._positions.clear()
            self._left.clear()
            self._bus.left(self)
            if self._consumer is not None:
                await self._consumer.stop()


class KafkaGroup(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """A member of the store's consumer group. One `fetch` at a time.

    When partitions move, what was fetched of those that are lost is not returned any more; those that stay go on
    behind what was returned. A commit for a partition that isn't held is ignored: its new holder will commit.
    """

    def __init__(self, bus: "KafkaBus") -> None:
        self._bus = bus
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[int, int] = {}
        self._left: dict[int, deque[Any]] = {}
        self._committed: dict[int, int] = {}
        self._owed: dict[int, int] = {}
        """Commits that a rebalance or an outage got in the way of; the next fetch makes them."""
        self._refused: NewerFormat | None = None
        self._unpacking = _Unpacking()
        self._closed = False

    # ---- who holds what

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by aiokafka before partitions may move."""
        del revoked
        self._left.clear()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by aiokafka with all that this member holds now."""
        held = {place.partition for place in assigned}
        logger.info("%d of %d partitions are read for the store here", len(held), self._bus.partitions)
        for of_partition in (self._positions, self._owed, self._committed):
            for partition in [partition for partition in of_partition if partition not in held]:
                del of_partition[partition]
        self._go_on()

    def _go_on(self) -> None:
        """Read on behind what was returned last."""
        assert self._consumer is not None
        self._left.clear()
        self._refused = None
        for partition, position in self._positions.items():
            self._consumer.seek(self._place(partition), position)

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._bus.topic, partition)

    # ---- reading

    async def fetch(self, max_bytes: int, timeout: float) -> list[Fetched]:
        """See `GroupReader.fetch`. Raises NewerFormat, BusError."""
        await asyncio.sleep(0)  # a turn for the others, however much there is to read
        if self._closed:
            raise BusError("the reader is closed")
        if self._consumer is None:
            await self._join()
        assert self._consumer is not None
        if self._owed:
            with suppress(BusError):  # it stays owed
                await self.commit(dict(self._owed))
        end = asyncio.get_running_loop().time() + timeout
        while True:
            if self._refused is not None:
                raise self._refused
            try:
                shares = await self._take(self._consumer, max_bytes, end)
                self._refused = shares.refused
                result = shares.result(self._positions)
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
                await self._place_anew(error)
            except UnicodeDecodeError:
                return await self._directly(max_bytes)
            except ConsumerStoppedError:
                raise BusError("the reader is closed") from None
            except KafkaError as error:
                self._go_on()
                raise BusError(f"Kafka can't be read for the store: {error}") from error
            else:
                if result or (self._refused is None and asyncio.get_running_loop().time() >= end):
                    return result

    async def _join(self) -> None:
        consumer = AIOKafkaConsumer(
            **connection(self._bus.settings),
            group_id=self._bus.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_MAX_WAIT_MS,
            max_partition_fetch_bytes=2 * _FETCH_BYTES,
            fetch_max_bytes=_FETCH_MOST,
        )
        try:
            await consumer.start()
        except BaseException as error:
            await consumer.stop()
            if isinstance(error, KafkaError):
                raise await unreachable(self._bus.settings) from error
            raise
        self._consumer = consumer
        consumer.subscribe([self._bus.topic], listener=self)

    async def _take(self, consumer: AIOKafkaConsumer, max_bytes: int, end: float) -> _Shares:
        """What has arrived, up to about `max_bytes`; waits for the first until `end`."""
        shares = _Shares(self._bus, self._positions, self._left, max_bytes)
        for partition in list(self._left):
            shares.take(partition)
        while shares.size < max_bytes and shares.refused is None:
            wait = 0.0 if shares.began else max(0.0, end - asyncio.get_running_loop().time())
            got = await self._unpacking.unpack(consumer, shares, wait=wait)
            if not got:
                break
            for place, records in got.items():
                self._positions.setdefault(place.partition, records[0].offset)
                shares.take(place.partition, records)
        return shares

    async def _place_anew(self, error: KafkaError) -> None:
        """Begin a partition where nothing was committed, or where what was is no longer kept."""
        assert self._consumer is not None
        if isinstance(error, NoOffsetForPartitionError):
            place, offset = error.args[0], None
        else:
            ((place, offset),) = error.args[0].items()
        try:
            start, end = await self._bus.bounds(place.partition)
        except BusError:
            if self._bus.stopped:
                raise
            return  # brokers are away: the error comes again when they are back
        if offset is not None and offset > end:
            raise await self._bus.out_of_range(place.partition, offset)
        if offset is not None and offset < start:
            logger.warning(
                "the bus no longer has offsets %d to %d of partition %d, which the store did not take in time",
                offset, start - 1, place.partition,
            )  # fmt: skip
        if place in self._consumer.assignment() and self._positions.get(place.partition, start) <= start:
            self._positions[place.partition] = start
            self._consumer.seek(place, start)
        self._go_on()

    async def _directly(self, max_bytes: int) -> list[Fetched]:
        """Read once without the consumer, which can't get past a record with headers that aren't text."""
        assert self._consumer is not None
        held = [place.partition for place in self._consumer.assignment()]
        committed = await self._bus.watermarks(held)
        for partition in held:
            self._positions.setdefault(partition, committed[partition])
        shares = _Shares(self._bus, self._positions, self._left, max_bytes)
        for partition, position in list(self._positions.items()):
            got = await self._bus.queries.fetch(self._bus.epoch, self._bus.topic, partition, position, max_bytes)
            if self._positions.get(partition) == position:
                self._bus.count_foreign(got.foreign)
                shares.add(partition, got.chunks, got.next)
        self._go_on()
        return shares.result(self._positions)

    # ---- the store's progress

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `GroupReader.commit`; a watermark never goes back. Raises BusError."""
        held = {p: o for p, o in offsets.items() if p in self._positions and o > self._committed.get(p, -1)}
        for partition in offsets.keys() - self._positions.keys():
            logger.info("the commit of partition %d is left to the member that holds it now", partition)
        if not held or self._consumer is None:
            return
        try:
            async with asyncio.timeout(self._bus.settings.delivery_timeout):
                await self._consumer.commit({self._place(p): o for p, o in held.items()})
        except (CommitFailedError, IllegalStateError):
            self._owed = {**self._owed, **held}
            logger.info("partitions are being shared out anew; the commit waits for that")
            return
        except (KafkaError, TimeoutError) as error:
            self._owed = {**self._owed, **held}
            raise BusError(f"Kafka does not take the store's progress: {error or 'no answer in time'}") from error
        self._committed.update(held)
        self._owed = {p: o for p, o in self._owed.items() if o > self._committed.get(p, -1)}
        self._bus.committed(held)

    async def close(self) -> None:
        """Leave the group, so that others take over at once."""
        if not self._closed:
            self._closed = True
            self._bus.left(self)
            if self._consumer is not None:
                await self._consumer.stop()
