"""Appending to a topic: idempotent, in the order of the calls, and all or nothing known.

One batch of a partition is in flight at a time; what is appended meanwhile goes into the next. So the order of the
calls holds without counting on a client's retries, and batches grow with the load.

Any error ends the producer and fails whatever is in flight, because aiokafka fails some records and acknowledges
later ones when a broker was away for long. The next producer takes the same producer id with the next epoch (KIP-360
does so too): once its fence is in a partition, Kafka itself refuses what may still be on its way from the one before.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from logsvc import metrics
from logsvc.bus.kafka_client import connection, unreachable
from logsvc.bus.kafka_records import MAX_RECORD
from logsvc.config import Kafka
from logsvc.errors import BusError, Sealed

BATCH_BYTES: Final = 1024 * 1024
"""Most bytes in a batch, before compression; one record may be larger."""
BATCH_RECORDS: Final = 1024
_LAST_EPOCH: Final = 2**15 - 2
_SETTLE: Final = 1.0
"""Seconds that a producer which was given up has to end."""

logger = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """A record to be."""

    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


_Waiting = tuple[Outgoing, "asyncio.Future[int]"]


class KafkaWriter:
    """Appends to one topic. `ready` is awaited before each producer's first record, and may refuse by BusError."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        settings: Kafka,
        topic: str,
        *,
        ready: Callable[[], Awaitable[None]],
        acknowledged: Callable[[int, int], None],
    ) -> None:
        self.tasks = tasks
        self.settings = settings
        self.topic = topic
        self.ready = ready
        self.acknowledged = acknowledged
        """Told the offset behind each batch that was written, by partition."""
        self.identity: tuple[int, int] | None = None
        """Id and epoch of the newest producer."""
        self._producer: _Producer | None = None
        self._closed = False

    def submit(self, partition: int, record: Outgoing) -> "asyncio.Future[int]":
        """Append a record; the future gives its offset, or BusError. Raises BusError."""
        if self._closed:
            raise BusError("the bus is closed")
        if self._producer is None or self._producer.reason is not None:
            self._producer = _Producer(self)
        return self._producer.submit(partition, record)

    async def close(self) -> None:
        """Write what was appended, and end. Twice is once."""
        if not self._closed:
            self._closed = True
            if self._producer is not None:
                await self._producer.close()


class _Producer:
    """The life of one producer, up to its first error."""

    def __init__(self, writer: KafkaWriter) -> None:
        self._writer = writer
        self._timeout = writer.settings.delivery_timeout
        self.reason: str | None = None
        """Why it ended."""
        self._error: type[BusError] = BusError
        self._producer: AIOKafkaProducer | None = None
        self._started = asyncio.get_running_loop().create_future()
        # As many as there are callers: each waits for its own.
        self._queues: dict[int, deque[_Waiting]] = {}
        self._sending: dict[int, list[_Waiting]] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._spawn(self._start())

    def submit(self, partition: int, record: Outgoing) -> "asyncio.Future[int]":
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = deque()
        queue.append((record, done))
        if partition not in self._sending:
            self._sending[partition] = []
            self._idle.clear()
            self._spawn(self._send_all(partition, queue))
        return done

    def _spawn(self, work: Any) -> None:
        task = self._writer.tasks.create_task(work)
        self._loops.add(task)
        task.add_done_callback(self._loops.discard)

    async def _start(self) -> None:
        writer = self._writer
        producer = self._producer = AIOKafkaProducer(
            **connection(writer.settings),
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_RECORD,
        )
        if writer.identity is not None and writer.identity[1] < _LAST_EPOCH:
            producer_id, epoch = writer.identity
            producer._txn_manager.set_pid_and_epoch(producer_id, epoch + 1)  # noqa: SLF001 - aiokafka has no KIP-360
        try:
            async with asyncio.timeout(self._timeout):
                await producer.start()
            manager = producer._txn_manager  # noqa: SLF001 - as above
            writer.identity = manager.producer_id, manager.producer_epoch
            await writer.ready()
        except BusError as error:
            self._fail(str(error))
        except (KafkaError, TimeoutError):
            self._fail(str(await unreachable(writer.settings)))
        else:
            self._started.set_result(None)

    async def _send_all(self, partition: int, queue: deque[_Waiting]) -> None:
        await asyncio.shield(self._started)
        try:
            while queue:
                began = time.perf_counter()
                offset = await self._send(partition, queue)
                taken = self._sending[partition]
                self._sending[partition] = []
                metrics.bus_append_seconds.observe(time.perf_counter() - began)
                metrics.bus_appends.inc(len(taken))
                metrics.bus_append_bytes.inc(sum(len(record.value) for record, _ in taken))
                self._writer.acknowledged(partition, offset + len(taken))
                for number, (_, done) in enumerate(taken, offset):
                    if not done.done():
                        done.set_result(number)
                # Those who have just been answered run first: what they append next goes into the same batch.
                await asyncio.sleep(0)
        except MessageSizeTooLargeError:
            self._error = Sealed
            self._fail(
                f"{self._writer.topic} takes no more records: it is sealed, or its max.message.bytes is too small"
            )
        except TimeoutError:
            self._fail(f"Kafka did not acknowledge within {self._timeout:g} s")
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that there is such a partition
            self._fail(f"Kafka refuses what is written: {error}")
        else:
            del self._sending[partition]
            if not self._sending:
                self._idle.set()

    async def _send(self, partition: int, queue: deque[_Waiting]) -> int:
        """Send one batch of what waits; the offset of its first record."""
        assert self._producer is not None
        builder = self._producer.create_batch()
        taken = self._sending[partition]
        while queue and len(taken) < BATCH_RECORDS:
            record = queue[0][0]
            if not builder.append(timestamp=None, key=record.key, value=record.value, headers=record.headers):
                break
            taken.append(queue.popleft())
        assert taken, "an empty batch takes any record"
        async with asyncio.timeout(self._timeout):
            sent = await self._producer.send_batch(builder, self._writer.topic, partition=partition)
            written = await sent
        # A batch that Kafka has had before, and of which it has forgotten where.
        if written is None or written.offset < 0:
            raise KafkaError("it has the records already and can't tell where")
        return int(written.offset)

    def _fail(self, reason: str) -> None:
        """End the producer, and refuse all that is in flight and all that waits behind it."""
        if self.reason is not None:
            return
        self.reason = reason
        metrics.bus_errors.labels("append").inc()
        logger.warning("appending to %s failed: %s", self._writer.topic, reason)
        waiting = [entry for taken in self._sending.values() for entry in taken]
        waiting += [entry for queue in self._queues.values() for entry in queue]
        for _, done in waiting:
            if not done.done():
                done.set_exception(self._error(reason))
        self._queues.clear()
        self._sending.clear()
        self._idle.set()
        ending = asyncio.current_task()
        for task in self._loops:
            if task is not ending:
                task.cancel()
        self._writer.tasks.create_task(self._abandon())

    async def _abandon(self) -> None:
        """End at once, whatever is in flight: aiokafka's `stop` waits for the broker."""
        producer = self._producer
        if producer is None:
            return
        sender = producer._sender.sender_task  # noqa: SLF001 - see above
        if sender is not None:
            sender.cancel()
        await producer.client.close()
        if sender is not None:
            await asyncio.wait([sender], timeout=_SETTLE)
            if not sender.done():
                sender.cancel()
                await asyncio.wait([sender])
        await producer.client.close()  # it may have connected anew
        producer._closed = True  # noqa: SLF001 - or it would warn that nobody stopped it

    async def close(self) -> None:
        """Wait until everything was written, or has failed, and end."""
        await self._idle.wait()
        if self.reason is None and self._producer is not None:
            await self._producer.stop()
