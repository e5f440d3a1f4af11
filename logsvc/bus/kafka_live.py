"""The router's reader of a `KafkaBus`."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from logsvc.bus import kafka_shares
from logsvc.bus.kafka_client import stop
from logsvc.bus.kafka_shares import FETCH_BYTES, Shares, Unpacking
from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, NewerFormat

if TYPE_CHECKING:
    from logsvc.bus.kafka import KafkaBus

SHARE: Final = 1024 * 1024
"""Most bytes of values of one partition in one fetch."""
MOST: Final = 8 * 1024 * 1024
"""About the most bytes of values of all partitions in one `LiveReader.fetch`."""
_ANSWER: Final = 5.0
"""Seconds that a broker may be silent: one that lost its power closes no connection, and others take its lead."""
_LOOK_UP: Final = 1.0
"""Seconds after which a reader that waits looks whether it was closed."""


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
        self._unpacking = Unpacking()
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
        illegible = False
        while True:
            if self._closed or self._consumer is None:
                raise BusError("the reader is closed")
            if self._refused is not None:
                raise self._refused
            try:
                shares = await (self._take_directly() if illegible else self._take(self._consumer))
                illegible = False
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
                illegible = True
            except KafkaError as error:
                self._restart()
                raise BusError(f"Kafka can't be read: {error}") from error

    async def _start(self) -> None:
        settings = self._bus.settings
        answer_ms = int(min(_ANSWER, settings.delivery_timeout) * 1000)
        more: dict[str, object] = {"max_partition_fetch_bytes": FETCH_BYTES, "request_timeout_ms": answer_ms}
        if self._bus.gather:
            more |= {"fetch_min_bytes": FETCH_BYTES, "fetch_max_wait_ms": int(self._bus.gather * 1000)}
        consumer = await kafka_shares.reader(self._bus, **more)
        if self._closed:
            await stop(consumer)
            return
        consumer.assign(self._places)
        for place in self._places:
            consumer.seek(place, self._positions.get(place.partition, 0))
        consumer.pause(*(place for place in self._places if place.partition not in self._positions))
        self._consumer = consumer

    async def _take(self, consumer: AIOKafkaConsumer) -> Shares:
        """A share of each watched partition, of what has arrived."""
        shares = Shares(self._bus, self._positions, self._left, SHARE)
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

    async def _take_directly(self) -> Shares:
        shares = Shares(self._bus, self._positions, self._left, SHARE)
        await shares.take_directly()
        self._restart()
        return shares

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._positions.clear()
            self._left.clear()
            self._bus.left(self)
            if self._consumer is not None:
                await stop(self._consumer)
