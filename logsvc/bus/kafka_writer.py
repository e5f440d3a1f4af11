"""Appending to a topic: idempotent, in the order of the calls, and all or nothing known.

One batch of a partition is in flight at a time; what is appended meanwhile goes into the next. So the order of the
calls holds without counting on a client's retries, and batches grow with the load.

A writer has a name. Any error ends its producer and fails whatever is in flight. The next producer of that name, in
this process or another, gets the same producer id from Kafka with a higher epoch: once its fence is in a partition,
Kafka itself refuses there what may still be on its way from the one before (`docs/adr/0010`).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from itertools import chain
from typing import Final, NamedTuple

from aiokafka.errors import InvalidProducerEpoch, KafkaError, MessageSizeTooLargeError

from logsvc import metrics
from logsvc.bus.kafka_batch import Outgoing, encode
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.bus.kafka_sender import KafkaSender
from logsvc.errors import BusError, Fenced, Sealed

BATCH_BYTES: Final = 1024 * 1024
"""Most bytes in a batch, before compression; one record may be larger."""
BATCH_RECORDS: Final = 1024
_SEQUENCES: Final = 2**31
_RENEW: Final = 24 * 3600.0
"""Seconds after which a name that is in use is asked for again: brokers forget one that wasn't for 7 days."""

logger = logging.getLogger(__name__)


_Waiting = tuple[Outgoing, "asyncio.Future[int]"]


class Topic(NamedTuple):
    """What the writers of one topic have in common."""

    tasks: asyncio.TaskGroup
    queries: KafkaQueries
    sender: KafkaSender
    name: str
    compress: Callable[[bytes], bytes]
    timeout: float
    """Seconds that an append may take."""
    ready: Callable[[], Awaitable[None]]
    """Awaited before each producer's first record; may refuse by BusError."""
    end: Callable[[int], int]
    """An end that a partition has had: what is sent from then on lies behind it."""
    acknowledged: Callable[[int, int, int, int], None]
    """Told of each batch that was written: its partition, what `end` was before it was sent, its offset, and the one
    behind it. May refuse by BusError."""
    chunks: bool = True
    """Whether its records are chunks, so that metrics count them."""


class KafkaWriter:
    """Appends to one topic under a name."""

    def __init__(self, topic: Topic, name: str) -> None:
        self.topic = topic
        self.name = name
        self._producer: _Producer | None = None
        self._closed = False

    def submit(self, partition: int, record: Outgoing) -> "asyncio.Future[int]":
        """Append a record; the future gives its offset, or BusError. Raises BusError."""
        if self._closed:
            raise BusError("the bus is closed")
        if self._producer is None or self._producer.reason is not None:
            self._producer = _Producer(self.topic, self.name)
        return self._producer.submit(partition, record)

    def refuse(self, error: BusError) -> None:
        """Fail what was appended and is not acknowledged."""
        if self._producer is not None and self._producer.busy:
            self._producer.fail(error)

    async def close(self) -> None:
        """Write what was appended and is waited for, and end. Twice is once."""
        if not self._closed:
            self._closed = True
            if self._producer is not None:
                await self._producer.close()


class _Producer:
    """The life of one producer, up to its first error."""

    def __init__(self, topic: Topic, name: str) -> None:
        self._topic = topic
        self._name = name
        self.reason: str | None = None
        """Why it ended."""
        self._identity = -1, -1
        """Producer id and epoch."""
        loop = self._loop = asyncio.get_running_loop()  # to ask for it is a system call each time
        self._renew_at = loop.time() + _RENEW
        self._sequences: dict[int, int] = {}
        """By partition, the number of the next record."""
        self._started = loop.create_future()
        # As many as there are callers: each waits for its own.
        self._queues: dict[int, deque[_Waiting]] = {}
        self._sending: dict[int, list[_Waiting]] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._spawn(self._start())

    @property
    def busy(self) -> bool:
        return bool(self._sending)

    def submit(self, partition: int, record: Outgoing) -> "asyncio.Future[int]":
        done: asyncio.Future[int] = self._loop.create_future()
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = deque()
        queue.append((record, done))
        if partition not in self._sending:
            self._sending[partition] = []
            self._spawn(self._send_all(partition, queue))
        return done

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._topic.tasks.create_task(work)
        self._loops.add(task)
        task.add_done_callback(self._loops.discard)

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(self._topic.timeout):
                self._identity = await self._topic.queries.producer(self._name)
            await self._topic.ready()
        except BusError as error:
            self.fail(error)
        except TimeoutError:
            self.fail(BusError(f"Kafka did not answer within {self._topic.timeout:g} s"))
        else:
            self._started.set_result(None)

    async def _renew(self) -> None:
        """Ask for the name again, so that it is known when the next one asks; this one goes on as it is."""
        try:
            await self._topic.queries.producer(self._name)
        except BusError as error:
            logger.warning("the name %s could not be renewed: %s", self._name, error)

    async def _send_all(self, partition: int, queue: deque[_Waiting]) -> None:
        await asyncio.shield(self._started)
        try:
            while queue:
                began, end = time.perf_counter(), self._topic.end(partition)
                offset = await self._send(partition, queue)
                taken = self._sending[partition]
                self._topic.acknowledged(partition, end, offset, offset + len(taken))
                self._sending[partition] = []
                if self._topic.chunks:
                    metrics.bus_append_seconds.observe(time.perf_counter() - began)
                    metrics.bus_appends.inc(len(taken))
                    metrics.bus_append_bytes.inc(sum(len(record.value or b"") for record, _ in taken))
                for number, (_, done) in enumerate(taken, offset):
                    if not done.done():
                        done.set_result(number)
                if self._loop.time() >= self._renew_at:
                    self._renew_at = self._loop.time() + _RENEW
                    self._spawn(self._renew())
                # Those who have just been answered run first: what they append next goes into the same batch.
                await asyncio.sleep(0)
        except MessageSizeTooLargeError:
            self.fail(
                Sealed(f"{self._topic.name} takes no more records: it is sealed, or its max.message.bytes is too small")
            )
        except InvalidProducerEpoch:
            self.fail(Fenced(f"another process writes as {self._name} now"))
        except KafkaError as error:
            self.fail(BusError(f"Kafka refuses what is written: {error}"))
        except BusError as error:
            self.fail(error)
        else:
            del self._sending[partition]

    async def _send(self, partition: int, queue: deque[_Waiting]) -> int:
        """Send one batch of what waits; the offset of its first record."""
        taken = self._sending[partition]
        size = 0
        while queue and len(taken) < BATCH_RECORDS:
            size += queue[0][0].size
            if taken and size > BATCH_BYTES:
                break
            taken.append(queue.popleft())
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = (sequence + len(taken)) % _SEQUENCES
        batch = encode([record for record, _ in taken], self._identity, sequence, self._topic.compress)
        giving_up = self._loop.call_later(self._topic.timeout, self._give_up)
        try:
            return await self._topic.sender.send(partition, batch)
        finally:
            giving_up.cancel()

    def _give_up(self) -> None:
        self.fail(BusError(f"Kafka did not acknowledge within {self._topic.timeout:g} s"))

    def fail(self, error: BusError) -> None:
        """End because of an error."""
        if self.reason is None:
            metrics.bus_errors.labels("append").inc()
            logger.warning("appending to %s failed: %s", self._topic.name, error)
            self._end(error)

    def _end(self, error: BusError) -> None:
        """End the producer, and refuse all that is in flight and all that waits behind it."""
        self.reason = str(error)
        for done in self._waited_for():
            done.set_exception(type(error)(self.reason))
        self._queues.clear()
        self._sending.clear()
        ending = asyncio.current_task()
        for task in self._loops:
            if task is not ending:
                task.cancel()

    def _waited_for(self) -> list["asyncio.Future[int]"]:
        """Of what is in flight and what waits behind it, that which somebody waits for still."""
        entries = chain.from_iterable([*self._sending.values(), *self._queues.values()])
        return [done for _, done in entries if not done.done()]

    async def close(self) -> None:
        """Wait until everything that somebody waits for was written, or has failed."""
        while waited := self._waited_for():
            await asyncio.wait(waited)
        if self.reason is None:
            self._end(BusError("the bus is closed"))
