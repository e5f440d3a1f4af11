"""The bus of several machines: a topic of Apache Kafka an epoch. See `docs/formats.md` for its records.

Which epochs there are is told by the registry (`logsvc.bus.epochs`); `logsvc migrate` alone makes topics.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Final, Self
from zlib import crc32

from aiokafka.errors import OffsetOutOfRangeError
from zstandard import ZstdCompressor

from logsvc import metrics
from logsvc.bus.epochs import Epoch, Epochs
from logsvc.bus.kafka_batch import Outgoing
from logsvc.bus.kafka_group import KafkaGroup, store_group
from logsvc.bus.kafka_live import KafkaLive
from logsvc.bus.kafka_queries import EARLIEST, KafkaQueries
from logsvc.bus.kafka_records import FENCE_HEADERS, MAX_KEY, MAX_ORIGIN, Decoded, headers
from logsvc.bus.kafka_rules import require
from logsvc.bus.kafka_sender import KafkaSender
from logsvc.bus.kafka_writer import KafkaWriter, Topic
from logsvc.bus.progress import progress
from logsvc.bus.protocol import Appender, Bounds, Fetched
from logsvc.config import Kafka
from logsvc.errors import BusError, Fenced, OutOfRange, Sealed, WrongTopic
from logsvc.model import MAX_CHUNK, Cursor, Origin, Stream
from logsvc.tasks import background
from logsvc.together import Together

MAX_READ: Final = 8 * 1024 * 1024
"""Most bytes of values that one read returns, whatever it asks for (or one record)."""
SLOTS: Final = 1024
"""Names under which `named` appends are spread over these: Kafka remembers each for days."""
_COMPRESSION: Final = 1
"""Level of zstd: the third makes log lines no smaller, and takes half as much time again."""
_TAKEOVERS: Final = 3
"""How often a fence tries to take a name from others who take it as well."""
_MARKS_AGE: Final = 0.25
"""Seconds for which watermarks are kept. One that is old is low, which is safe: the bus has what is above it."""
_WATCH: Final = 2.0
"""Seconds between two looks at which topic has the name."""
_REPORT: Final = 60.0
"""Seconds between two reports of records that logsvc did not write."""

logger = logging.getLogger(__name__)

Recorded = Callable[[int], Awaitable[Mapping[int, int]]]
"""The watermarks of an epoch, by partition. Raises StoreError."""


class KafkaBus:
    """A `Bus` on one topic. Made by `open`."""

    def __init__(
        self,
        settings: Kafka,
        epochs: Epochs,
        epoch: Epoch,
        writer: str,
        tasks: asyncio.TaskGroup,
        queries: KafkaQueries,
        clock: Callable[[], float],
        recorded: Recorded | None,
        gather: float,
    ) -> None:
        self.settings = settings
        self.gather = gather
        """Seconds for which live readers let records come together."""
        self.epochs = epochs
        self.epoch = epoch.number
        self.partitions = epoch.partitions
        self.topic = epoch.topic(settings.prefix)
        self.topic_id = epoch.topic_id
        self.group_id = store_group(settings.prefix)
        self.queries = queries
        self._clock = clock
        self._recorded = recorded
        self._sender = KafkaSender(tasks, queries, self.topic, settings.delivery_timeout, self.topic_id)
        self._written = Topic(
            tasks,
            queries,
            self._sender,
            self.topic,
            ZstdCompressor(level=_COMPRESSION).compress,
            settings.delivery_timeout,
            self._check_same,
            self._end,
            self._acknowledged,
        )
        self._writer = KafkaWriter(self._written, f"{self.topic}/{writer}")
        self._slots: dict[int, KafkaWriter] = {}
        self._reading = asyncio.Semaphore(settings.reads)
        self._bounds = Together(self._ask_bounds)
        self._read = Together(self._fetch)
        self._readers: set[KafkaLive | KafkaGroup] = set()
        self._ends: dict[int, int] = {}
        """By partition, an end that it had: one that is lower is another topic's."""
        self._marks: dict[int, int] = {}
        self._marks_at = -_MARKS_AGE
        self._marking = asyncio.Lock()
        self._stopped: str | None = None
        self._stopping = asyncio.Event()
        self._foreign = 0
        self._reported = -_REPORT
        self._closed = False
        self._identify = lru_cache(maxsize=1 << 16)(self._identity)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Kafka,
        epoch: int | None = None,
        *,
        epochs: Epochs | None = None,
        writer: str = "",
        recorded: Recorded | None = None,
        clock: Callable[[], float] = time.monotonic,
        gather: float = 0.0,
    ) -> AsyncIterator[Self]:
        """Use the topic of an epoch, by default the current one; closed at the end of the block.

        `epochs` is the registry where it is open already; it has to outlive the bus.
        `writer` names whoever appends here, the same after a restart: a fence holds off what others of that name
        have sent. Without one nobody takes over from this process. `recorded` gives the watermarks of an epoch that
        the store has: with it `watermark` outlives brokers that are away. `clock` gives seconds. `gather`: seconds for
        which live readers let records come together, where nobody waits for each of them. Raises ConfigError
        where there is no such epoch, or Kafka is not set as it must be; BusError where it can't be used; WrongTopic,
        which cancels the block, as soon as the topic is not the one that `logsvc migrate` made.
        """
        async with (
            Epochs.open(settings) if epochs is None else nullcontext(epochs) as registry,
            KafkaQueries.open(settings) as queries,
            background() as watching,
            background() as tasks,
        ):
            writer = writer or secrets.token_hex(8)
            used = registry.get(epoch)
            bus = cls(settings, registry, used, writer, tasks, queries, clock, recorded, gather)
            try:
                await bus._check_same()
                await require(settings, queries, used)
                watcher = watching.create_task(bus._watch())
                try:
                    yield bus
                finally:
                    watcher.cancel()
            finally:
                await bus.close()

    @property
    def sealed(self) -> Mapping[int, int] | None:
        """Where each partition ends for good; None while this epoch takes records."""
        return self.epochs.all[self.epoch].sealed

    @property
    def stopped(self) -> bool:
        """Whether the topic is not what it was, and nothing is read or written any more."""
        return self._stopped is not None

    # ---- appending

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        """See `Bus.append`. Raises ValueError where the value is larger than MAX_CHUNK; Sealed, BusError."""
        return await self.append_by(self._writer, stream, value, origin, partial=partial)

    async def fence(self, partition: int) -> int:
        """See `Bus.fence`. Raises Sealed, BusError."""
        return await self.fence_by(self._writer, partition)

    def named(self, name: str) -> Appender:
        """See `Bus.named`. Names share SLOTS producers, so who takes one over may interrupt another."""
        slot = crc32(name.encode()) % SLOTS
        writer = self._slots.get(slot)
        if writer is None:
            writer = self._slots[slot] = KafkaWriter(self._written, f"{self.topic}/slot-{slot}")
        return _Named(self, writer)

    async def append_by(
        self, writer: KafkaWriter, stream: Stream, value: bytes, origin: Origin | None, *, partial: bool
    ) -> Cursor:
        """`append` by one writer."""
        if len(value) > MAX_CHUNK:
            raise ValueError(f"a chunk of {len(value)} bytes; at most {MAX_CHUNK}")
        header = origin.header() if origin is not None else b""
        if len(header) > MAX_ORIGIN:
            raise ValueError(f"an origin of {len(header)} bytes; at most {MAX_ORIGIN}")
        key, partition = self._identify(stream)
        offset = await self._submit(writer, partition, Outgoing(key, value, headers(header, partial=partial)))
        return Cursor(self.epoch, partition, offset, -1)

    async def fence_by(self, writer: KafkaWriter, partition: int) -> int:
        """`fence` by one writer, which takes its name from whoever has it."""
        self.check(partition)
        for _ in range(_TAKEOVERS):
            with suppress(Fenced):
                return await self._submit(writer, partition, Outgoing(None, b"", FENCE_HEADERS))
        raise BusError(f"others keep taking over {writer.name}")

    def _identity(self, stream: Stream) -> tuple[bytes, int]:
        key = stream.key()
        if len(key) > MAX_KEY:
            raise ValueError(f"a stream's key of {len(key)} bytes; at most {MAX_KEY}")
        return key, stream.app_id.partition(self.partitions)

    def _submit(self, writer: KafkaWriter, partition: int, record: Outgoing) -> "asyncio.Future[int]":
        if self._stopped is not None:
            raise WrongTopic(self._stopped)
        if self.sealed is not None:
            raise Sealed(f"{self.topic} is sealed: epoch {self.epochs.current.number} takes lines")
        return writer.submit(partition, record)

    async def _watch(self) -> None:
        """Raises WrongTopic once it is another topic.

        Readers and writers ask by the topic's id, so this isn't what keeps them from it: it tells them why they wait.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH):
                    await self._stopping.wait()
            if self._stopped is not None:
                raise WrongTopic(self._stopped)
            try:
                found = await self.queries.topic_id(self.topic)
            except BusError:
                continue  # brokers are away, or the topic is
            self._check_id(found)

    async def _check_same(self) -> None:
        """Raises WrongTopic where it is another topic of the same name, or has lost what was read or written there."""
        everything = range(self.partitions)
        # Ends are asked for last: what others read and store meanwhile lies behind an answer that is on its way.
        known = dict(self._ends)
        topic, marks = await asyncio.gather(
            self.queries.topic_id(self.topic),
            self.queries.committed(self.group_id, self.topic, everything),
        )
        least = {partition: max(marks.get(partition, 0), known.get(partition, 0)) for partition in everything}
        self._check_id(topic)
        ends = await self.queries.ends(self.topic, everything, least)
        for partition, end in ends.items():
            if end < least[partition]:
                raise self._made_anew(f"ends at {end} in partition {partition}, before what was read or written there")
            self.seen(partition, end)

    async def check_stored(self) -> None:
        """Raises WrongTopic where the store has more of this epoch than there is, as of another Kafka; StoreError."""
        marks = await self._recorded(self.epoch) if self._recorded is not None else {}
        ends = await self.queries.ends(self.topic, range(self.partitions), marks)
        for partition, end in ends.items():
            if end < marks.get(partition, 0):
                raise self._made_anew(f"ends at {end} in partition {partition}, before what the store has of it")

    def _check_id(self, topic_id: str) -> None:
        if topic_id != self.topic_id:
            raise self._made_anew("is not the one that logsvc migrate made")

    def seen(self, partition: int, end: int) -> None:
        """A partition had this end."""
        if end > self._ends.get(partition, 0):
            self._ends[partition] = end

    def _end(self, partition: int) -> int:
        return self._ends.get(partition, 0)

    def _acknowledged(self, partition: int, known: int, offset: int, end: int) -> None:
        if self._stopped is not None:
            raise WrongTopic(self._stopped)
        if offset < known:
            raise self._made_anew(f"took a record at {offset} in partition {partition}, where it had gone to {known}")
        self.seen(partition, end)

    def _made_anew(self, what: str) -> WrongTopic:
        """Nothing may be written to such a topic, or offsets would be given out twice."""
        self._stopped = (
            f"{self.topic} {what}: it was deleted and made again, or has lost records. Nothing is read from it or "
            f"written to it any more. Go on under another kafka.prefix, as after a Kafka that was lost"
        )
        metrics.bus_errors.labels("topic").inc()
        self._stopping.set()
        for writer in [self._writer, *self._slots.values()]:
            writer.refuse(WrongTopic(self._stopped))
        return WrongTopic(self._stopped)

    # ---- reading

    async def bounds(self, partition: int) -> Bounds:
        """See `Bus.bounds`. Raises BusError."""
        self.check(partition)
        return await self._bounds(partition)

    async def _ask_bounds(self, partition: int) -> Bounds:
        if self._stopped is not None:
            raise WrongTopic(self._stopped)
        known = self._ends.get(partition, 0)  # as above
        start, end = await asyncio.gather(
            self.queries.offsets(self.topic, [partition], EARLIEST),
            self.queries.ends(self.topic, [partition], {partition: known}),
        )
        if end[partition] < known:
            raise self._made_anew(f"ends at {end[partition]} in partition {partition}, before what was read there")
        self.seen(partition, end[partition])
        return Bounds(start[partition], end[partition])

    async def out_of_range(self, partition: int, offset: int) -> BusError:
        """The error to raise for an offset that Kafka says it doesn't have. Raises BusError."""
        start, end = await self.bounds(partition)
        return OutOfRange(partition, offset, start, end)

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        """See `Bus.read`; at most MAX_READ bytes at once. Raises OutOfRange, NewerFormat, BusError.

        Of those who wait for their turn, the first to come is the first to go.
        """
        self.check(partition)
        return await self._read((partition, offset, min(max_bytes, MAX_READ)))

    async def _fetch(self, place: tuple[int, int, int]) -> Fetched:
        partition, offset, max_bytes = place
        if self._stopped is not None:
            raise WrongTopic(self._stopped)
        async with self._reading:
            try:
                got = await self.fetch_at(partition, offset, max_bytes)
            except OffsetOutOfRangeError:
                raise await self.out_of_range(partition, offset) from None
        self.count_foreign(got.foreign)
        if got.refused is not None and got.next == offset:
            raise got.refused
        self.seen(partition, got.next)
        return Fetched(partition, got.chunks, got.next)

    async def fetch_at(self, partition: int, offset: int, max_bytes: int) -> Decoded:
        """Decode what is there. Raises OffsetOutOfRangeError (aiokafka's), BusError."""
        return await self.queries.fetch(self.epoch, self.topic, self.topic_id, partition, offset, max_bytes)

    def check(self, partition: int) -> None:
        """Raises ValueError where there is no such partition."""
        if not 0 <= partition < self.partitions:
            raise ValueError(f"partition {partition} of {self.partitions}")

    def count_foreign(self, records: int) -> None:
        """Records were skipped because logsvc did not write them; that is reported now and then."""
        if not records:
            return
        metrics.bus_foreign.inc(records)
        self._foreign += records
        if self._clock() - self._reported >= _REPORT:
            logger.warning("%d records in %s were not written by logsvc: skipped", self._foreign, self.topic)
            self._foreign, self._reported = 0, self._clock()

    def live(self) -> KafkaLive:
        """See `Bus.live`; any number at once."""
        reader = KafkaLive(self)
        self._readers.add(reader)
        return reader

    def group(self) -> KafkaGroup:
        """See `Bus.group`; any number at once, here and in other processes."""
        reader = KafkaGroup(self)
        self._readers.add(reader)
        return reader

    def left(self, reader: KafkaLive | KafkaGroup) -> None:
        """A reader is closed."""
        self._readers.discard(reader)

    # ---- the store's progress

    async def watermark(self, partition: int) -> int:
        """See `Bus.watermark`. Up to a quarter of a second old. Raises BusError."""
        self.check(partition)
        return (await self.watermarks([partition]))[partition]

    async def watermarks(self, partitions: Collection[int]) -> dict[int, int]:
        """`watermark` of each. Raises BusError."""
        async with self._marking:
            if self._clock() - self._marks_at >= _MARKS_AGE:
                if self._recorded is None:
                    marks = await self._committed()
                else:
                    marks = await progress(self._committed(), self._recorded(self.epoch))
                for partition, mark in marks.items():
                    self._mark(partition, mark)
                self._marks_at = self._clock()
        if unknown := [partition for partition in partitions if partition not in self._marks]:
            raise BusError(f"Kafka can't be asked how far the store is in partition {unknown[0]} of {self.topic}")
        return {partition: self._marks[partition] for partition in partitions}

    async def _committed(self) -> dict[int, int]:
        everything = range(self.partitions)
        starts, marks = await asyncio.gather(
            self.queries.offsets(self.topic, everything, EARLIEST),
            self.queries.committed(self.group_id, self.topic, everything),
        )
        return {partition: max(start, marks.get(partition, 0)) for partition, start in starts.items()}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """The store's group has got to these, as a reader of this process knows."""
        for partition, offset in offsets.items():
            self._mark(partition, offset)

    def _mark(self, partition: int, offset: int) -> None:
        self._marks[partition] = max(offset, self._marks.get(partition, 0))

    async def close(self) -> None:
        """Write what was appended; readers end. Twice is once."""
        if self._closed:
            return
        self._closed = True
        for writer in [self._writer, *self._slots.values()]:
            await writer.close()
        await self._sender.close()
        for reader in list(self._readers):
            await reader.close()


class _Named:
    """An `Appender` by one writer of a bus."""

    def __init__(self, bus: KafkaBus, writer: KafkaWriter) -> None:
        self._bus, self._writer = bus, writer

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        return await self._bus.append_by(self._writer, stream, value, origin, partial=partial)

    async def fence(self, partition: int) -> int:
        return await self._bus.fence_by(self._writer, partition)
