"""Sending batches of records to the leaders of their partitions (`Produce` in Kafka's protocol guide).

aiokafka's producer can't be given the identity under which it writes, and identities are what fences are made of
(`docs/adr/0010`); so its client and its protocol are used here without it.
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.produce import ProduceRequest

from logsvc.bus.kafka_by_id import Produce, code_of
from logsvc.bus.kafka_queries import KafkaQueries

_ALL: Final = -1
"""Acknowledge what all replicas in sync have."""
_BACKOFF: Final = 0.1


class _Batch(NamedTuple):
    partition: int
    records: bytes
    offset: "asyncio.Future[int]"


class KafkaSender:
    """Writes to one topic. To each broker one request is under way; what comes meanwhile goes into the next.

    Kafka takes one batch of a partition a request, and answers a connection's requests in their order.
    """

    def __init__(
        self, tasks: asyncio.TaskGroup, queries: KafkaQueries, topic: str, timeout: float, topic_id: str | None = None
    ) -> None:
        """With a `topic_id` no other topic of that name is written to, where brokers know ids."""
        self._tasks = tasks
        self._queries = queries
        self._topic = topic
        self._topic_id = topic_id
        self._timeout_ms = max(1, int(timeout * 1000))
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, deque[_Batch]] = {}
        """By broker, while it is sent to."""
        self._sending: set[asyncio.Task[None]] = set()

    async def send(self, partition: int, records: bytes) -> int:
        """Write one batch; the offset of its first record.

        As long as another answer may come it is sent again, for ever: brokers know a batch that they have had by its
        producer's id, epoch and sequence number. Raises KafkaError.
        """
        while True:
            try:
                leader = await self._queries.leader(self._topic, partition)
                return await self._hand_over(leader, partition, records)
            except KafkaError as error:
                if not error.retriable:
                    raise
                if error.invalid_metadata or isinstance(error, NodeNotReadyError):
                    await self._queries.client.force_metadata_update()
            await asyncio.sleep(_BACKOFF)

    def _hand_over(self, broker: int, partition: int, records: bytes) -> "asyncio.Future[int]":
        offset: asyncio.Future[int] = self._loop.create_future()
        queue = self._waiting.get(broker)
        if queue is None:
            queue = self._waiting[broker] = deque()
            task = self._tasks.create_task(self._send_all(broker, queue))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        queue.append(_Batch(partition, records, offset))
        return offset

    async def _send_all(self, broker: int, queue: deque[_Batch]) -> None:
        try:
            while taken := _next(queue):
                request = self._request({partition: batch.records for partition, batch in taken.items()})
                try:
                    # A connection of its own: a broker answers what comes behind on the same one only afterwards.
                    answer = await self._queries.client.send(broker, request, group=ConnectionGroup.COORDINATION)
                except KafkaError as error:
                    for batch in taken.values():
                        _settle(batch, error)
                else:
                    for _, parts, *_ in answer.topics:
                        for partition, code, offset, *_ in parts:
                            _settle(taken[partition], for_code(code_of(code))() if code else offset)
                # Those who have just been answered run first: what they send next goes into the same request.
                await asyncio.sleep(0)
        finally:
            del self._waiting[broker]

    def _request(self, batches: dict[int, bytes]) -> ProduceRequest | Produce:
        if self._topic_id is None:
            return ProduceRequest(None, _ALL, self._timeout_ms, [(self._topic, [*batches.items()])])
        return Produce(self._topic, self._topic_id, _ALL, self._timeout_ms, batches)

    async def close(self) -> None:
        """End, whatever is under way."""
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)


def _next(queue: deque[_Batch]) -> dict[int, _Batch]:
    """Take what goes into the next request, by partition. What was given up meanwhile is left out."""
    taken: dict[int, _Batch] = {}
    later = []
    while queue:
        batch = queue.popleft()
        if batch.offset.done():
            continue
        if taken.setdefault(batch.partition, batch) is not batch:
            later.append(batch)
    queue.extend(later)
    return taken


def _settle(batch: _Batch, result: int | KafkaError) -> None:
    if batch.offset.done():  # it was given up
        return
    if isinstance(result, int):
        batch.offset.set_result(result)
    else:
        batch.offset.set_exception(result)
