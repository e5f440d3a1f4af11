"""The store's reader of a `KafkaBus`: a member of a consumer group."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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

from logsvc.bus import kafka_shares
from logsvc.bus.kafka_client import stop
from logsvc.bus.kafka_shares import FETCH_BYTES, Shares, Unpacking
from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, NewerFormat

if TYPE_CHECKING:
    from logsvc.bus.kafka import KafkaBus

logger = logging.getLogger(__name__)


def store_group(prefix: str) -> str:
    """Id of the group whose members share the partitions among them, to store what is in them."""
    return f"{prefix}-store"


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
        self._moving = False
        """Whether partitions are being shared out anew. A commit would wait behind the request to join and come with
        the generation before; aiokafka answers its refusal by joining again, which has all shared out anew for ever."""
        self._refused: NewerFormat | None = None
        self._unpacking = Unpacking()
        self._closed = False

    # ---- who holds what

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by aiokafka before partitions may move."""
        del revoked
        self._moving = True
        self._left.clear()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by aiokafka with all that this member holds now."""
        held = {place.partition for place in assigned}
        logger.info("%d of %d partitions are read for the store here", len(held), self._bus.partitions)
        for of_partition in (self._positions, self._owed, self._committed):
            for partition in [partition for partition in of_partition if partition not in held]:
                del of_partition[partition]
        self._moving = False
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
        """See `GroupReader.fetch`. Raises NewerFormat, BusError; StoreError where that can't tell its place yet."""
        await asyncio.sleep(0)  # a turn for the others, however much there is to read
        if self._closed:
            raise BusError("the reader is closed")
        if self._consumer is None:
            await self._join()
        assert self._consumer is not None
        if self._owed and not self._moving:
            with suppress(BusError):  # it stays owed
                await self.commit(dict(self._owed))
        end = asyncio.get_running_loop().time() + timeout
        illegible = False
        while True:
            if self._refused is not None:
                raise self._refused
            try:
                taking = self._take_directly(max_bytes) if illegible else self._take(self._consumer, max_bytes, end)
                shares = await taking
                illegible = False
                self._refused = shares.refused
                result = shares.result(self._positions)
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
                await self._place_anew(error)
            except UnicodeDecodeError:
                illegible = True
            except ConsumerStoppedError:
                raise BusError("the reader is closed") from None
            except KafkaError as error:
                self._go_on()
                raise BusError(f"Kafka can't be read for the store: {error}") from error
            else:
                if result or (self._refused is None and asyncio.get_running_loop().time() >= end):
                    return result

    async def _join(self) -> None:
        await self._bus.check_stored()
        consumer = await kafka_shares.reader(
            self._bus, group_id=self._bus.group_id, max_partition_fetch_bytes=2 * FETCH_BYTES
        )
        self._consumer = consumer
        consumer.subscribe([self._bus.topic], listener=self)

    async def _take(self, consumer: AIOKafkaConsumer, max_bytes: int, end: float) -> Shares:
        """What has arrived, up to about `max_bytes`; waits for the first until `end`."""
        shares = Shares(self._bus, self._positions, self._left, max_bytes)
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

    async def _take_directly(self, max_bytes: int) -> Shares:
        assert self._consumer is not None
        held = [place.partition for place in self._consumer.assignment()]
        committed = await self._bus.watermarks(held)
        for partition in held:
            self._positions.setdefault(partition, committed[partition])
        shares = Shares(self._bus, self._positions, self._left, max_bytes)
        await shares.take_directly()
        self._go_on()
        return shares

    # ---- the store's progress

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `GroupReader.commit`; a watermark never goes back. Raises BusError."""
        held = {p: o for p, o in offsets.items() if p in self._positions and o > self._committed.get(p, -1)}
        for partition in offsets.keys() - self._positions.keys():
            logger.info("the commit of partition %d is left to the member that holds it now", partition)
        if not held or self._consumer is None:
            return
        if self._moving:
            self._owe(held)
            return
        try:
            async with asyncio.timeout(self._bus.settings.delivery_timeout):
                await self._consumer.commit({self._place(p): o for p, o in held.items()})
        except (CommitFailedError, IllegalStateError):
            self._owe(held)
            return
        except (KafkaError, TimeoutError) as error:
            self._owed = {**self._owed, **held}
            raise BusError(f"Kafka does not take the store's progress: {error or 'no answer in time'}") from error
        self._committed.update(held)
        self._owed = {p: o for p, o in self._owed.items() if o > self._committed.get(p, -1)}
        self._bus.committed(held)

    def _owe(self, offsets: Mapping[int, int]) -> None:
        self._owed = {**self._owed, **offsets}
        logger.info("partitions are being shared out anew; the commit waits for that")

    async def close(self) -> None:
        """Leave the group, so that others take over at once."""
        if not self._closed:
            self._closed = True
            self._bus.left(self)
            if self._consumer is not None:
                await stop(self._consumer)
