"""The registry of epochs: which topics there have been, and which one takes lines.

It is a topic of one partition, `<prefix>.control`. A record's key is `epoch/<n>/<writer>` or `sealed/<n>/<writer>`,
its value a JSON object: `{"partitions":64,"created":<Unix s>,"topic_id":"<UUID>"}`, and `{"ends":[…]}` with the end
of each partition. Of several writers of one epoch the first in offset order wins. The writer, a random word, is in the
key because the topic is compacted: that keeps the last record of a key, and would take the winner for the loser's.

What operators say stands on the same topic: see controls.py. `others` has the rest, which is drains.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from logsvc.bus.controls import Controls
from logsvc.bus.kafka_client import connection, open_consumer, stop
from logsvc.config import Kafka
from logsvc.errors import BusAway, BusError, ConfigError
from logsvc.tasks import background

_KEY: Final = re.compile(rb"(epoch|sealed)/([1-9][0-9]{0,8})/[0-9a-f]+")
_WAIT_MS: Final = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One incarnation of the bus."""

    number: int
    partitions: int
    created: int
    """Unix seconds."""
    topic_id: str = ""
    """What Kafka calls its topic: one of the same name made later has another id."""
    sealed: Mapping[int, int] | None = None
    """Where each partition ends for good; None while it takes records."""

    def topic(self, prefix: str) -> str:
        return f"{prefix}.{self.number}"


@dataclass(slots=True)
class Registry:
    """What the records of the control topic say, in offset order. Pure."""

    all: dict[int, Epoch] = field(default_factory=dict)

    def apply(self, key: bytes | None, value: bytes | None) -> bool:
        """Take the next record; whether it changed anything. What isn't understood is another tool's: passed over."""
        match = _KEY.fullmatch(key or b"")
        if match is None or value is None:
            return False
        kind, number = match[1], int(match[2])
        known = self.all.get(number)
        try:
            content = orjson.loads(value)
            if kind == b"epoch" and known is None:
                partitions, created, topic_id = content["partitions"], content["created"], content["topic_id"]
                self.all[number] = Epoch(number, int(partitions), int(created), str(topic_id))
            elif kind == b"sealed" and known is not None and known.sealed is None:
                ends = [int(end) for end in content["ends"]]
                self.all[number] = replace(known, sealed=dict(enumerate(ends)))
            else:
                return False
        except (ValueError, TypeError, KeyError):
            return False
        return True


def control_topic(prefix: str) -> str:
    return f"{prefix}.control"


class Epochs:
    """The registry, read at the start and followed. Made by `open`."""

    def __init__(self, settings: Kafka, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._topic = control_topic(settings.prefix)
        self._place = TopicPartition(self._topic, 0)
        self._consumer = consumer
        self._registry = Registry()
        self.controls = Controls()
        """What operators have said, as far as this process has heard."""
        self.others: dict[bytes, bytes] = {}
        """The last value of each key that says neither; one that was deleted is gone."""
        self._change = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka) -> AsyncIterator[Self]:
        """Read all of it, and follow it until the end of the block. Raises BusError; ConfigError before `migrate`."""
        consumer = await open_consumer(settings, fetch_max_wait_ms=500)
        try:
            epochs = cls(settings, consumer)
            await epochs._read_all()
            async with background() as tasks:
                following = tasks.create_task(epochs._follow())
                try:
                    yield epochs
                finally:
                    following.cancel()
        finally:
            await stop(consumer)

    @property
    def all(self) -> Mapping[int, Epoch]:
        """Every epoch that was announced, by number."""
        return self._registry.all

    @property
    def current(self) -> Epoch:
        """The newest. Raises ConfigError where there is none yet."""
        if not self.all:
            raise ConfigError(f"there is no topic {self._settings.prefix}.1 yet: run logsvc migrate once")
        return self.all[max(self.all)]

    def get(self, number: int | None) -> Epoch:
        """An epoch, by default the current one. Raises ConfigError where there is none."""
        if number is None:
            return self.current
        if number not in self.all:
            raise ConfigError(f"there is no epoch {number} of {self._settings.prefix}")
        return self.all[number]

    async def changed(self) -> None:
        """Wait for the next records."""
        await self._change.wait()

    async def read_to(self, offset: int) -> None:
        """Wait until the record at `offset` was read. Raises BusAway."""
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                while await self._consumer.position(self._place) <= offset:
                    await self.changed()
        except TimeoutError as error:
            raise BusAway(f"{self._topic} can't be read: no answer in time") from error

    async def announce(self, epoch: Epoch) -> None:
        """Say that an epoch takes lines. Returns once it is in `all`, whoever has said it first. Raises BusError."""
        content = {"partitions": epoch.partitions, "created": epoch.created, "topic_id": epoch.topic_id}
        await self._write_once(f"epoch/{epoch.number}", content)

    async def seal(self, number: int, ends: Mapping[int, int]) -> None:
        """Say where an epoch has ended. Returns once that is in `all`. Raises BusError."""
        await self._write_once(f"sealed/{number}", {"ends": [ends[partition] for partition in sorted(ends)]})

    async def _write_once(self, key: str, content: Mapping[str, Any]) -> None:
        await self.write(f"{key}/{secrets.token_hex(4)}".encode(), orjson.dumps(content))

    async def write(self, key: bytes, value: bytes | None) -> None:
        """Append a record. Returns once it was read here as well. Raises BusError."""
        producer = AIOKafkaProducer(**connection(self._settings), acks="all")
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                await producer.start()
                written = await producer.send_and_wait(self._topic, value, key=key, partition=0)
                await self.read_to(written.offset)
        except (KafkaError, TimeoutError) as error:
            raise BusError(f"{self._topic} can't be written: {error}") from error
        finally:
            await producer.stop()

    async def _read_all(self) -> None:
        try:
            async with asyncio.timeout(self._settings.delivery_timeout):
                topics = await self._consumer.topics()
                if self._topic not in topics:
                    raise ConfigError(f"there is no topic {self._topic} yet: run logsvc migrate once")
                starts = await self._consumer.beginning_offsets([self._place])
                ends = await self._consumer.end_offsets([self._place])
                self._consumer.assign([self._place])
                self._consumer.seek(self._place, starts[self._place])
                while await self._consumer.position(self._place) < ends[self._place]:
                    await self._take()
        except TimeoutError as error:
            raise BusAway(f"{self._topic} can't be read: no answer in time") from error
        except KafkaError as error:
            raise (BusAway if error.retriable else BusError)(f"{self._topic} can't be read: {error}") from error

    async def _take(self) -> None:
        got = await self._consumer.getmany(self._place, timeout_ms=_WAIT_MS)
        for record in got.get(self._place, ()):
            key, value = record.key, record.value
            if not self._registry.apply(key, value) and not self.controls.apply(key, value):
                self._keep(key, value)
        if got:
            self._change.set()
            self._change = asyncio.Event()

    def _keep(self, key: bytes | None, value: bytes | None) -> None:
        if key is None or _KEY.fullmatch(key):
            return
        if value is None:
            self.others.pop(key, None)
        else:
            self.others[key] = value

    async def _follow(self) -> None:
        while True:
            try:
                await self._take()
            except KafkaError as error:
                # Only a topic that was deleted gets here; what is known of it stays true.
                logger.warning("%s can't be followed: %s", self._topic, error)
                await asyncio.sleep(_WAIT_MS / 1000)
