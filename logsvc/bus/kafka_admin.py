"""What `logsvc migrate` does on Kafka: it alone makes topics.

The steps may be done again, and by several at once: each finds out what is there, and the registry decides who was
first. Another number of partitions is a new epoch. Its topic is made first; then the old one is told to take no more
bytes, so that the brokers themselves refuse every collector; then the end is noted and the new epoch announced.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAlreadyExistsError, for_code

from logsvc.bus.dead_letters import dead_settings, dead_topic
from logsvc.bus.epochs import Epoch, Epochs, control_topic
from logsvc.bus.kafka_client import connection, unreachable
from logsvc.bus.kafka_queries import LATEST, KafkaQueries
from logsvc.bus.kafka_records import FENCE_HEADERS, MAX_RECORD
from logsvc.bus.kafka_tables import drains_settings, drains_topic
from logsvc.bus.kafka_writer import BATCH_BYTES
from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError

MAX_BATCH: Final = max(BATCH_BYTES, MAX_RECORD) + 64 * 1024
"""What `max.message.bytes` must allow: a batch, uncompressed where that is smaller, and its header."""
SEALED_BYTES: Final = 0
"""`max.message.bytes` of a sealed topic."""
_TOPIC_CONFIG: Final = 1
"""Where a setting comes from, in Kafka's numbering: the topic's own."""
_BACKOFF: Final = 0.05

Stored = Callable[[int], Awaitable[Mapping[int, int]]]
"""The watermarks of an epoch that the store has, by partition. Raises StoreError."""

logger = logging.getLogger(__name__)


def topic_settings(settings: Kafka) -> dict[str, str]:
    """What an epoch's topic must be set to."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.retention_hours * 3_600_000),
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_BATCH),
        "min.insync.replicas": str(min(settings.min_insync, settings.replication)),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
    }


def control_settings(settings: Kafka) -> dict[str, str]:
    """What the control topic must be set to."""
    return {
        "cleanup.policy": "compact",
        "min.insync.replicas": str(min(settings.min_insync, settings.replication)),
        "unclean.leader.election.enable": "false",
    }


class KafkaAdmin:
    """Questions and orders about topics. Made by `open`."""

    def __init__(self, settings: Kafka, client: AIOKafkaAdminClient) -> None:
        self._settings = settings
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka) -> AsyncIterator["KafkaAdmin"]:
        """Connect, and close at the end of the block. Raises BusError where no broker can be used."""
        client = AIOKafkaAdminClient(**connection(settings))
        try:
            try:
                async with asyncio.timeout(settings.delivery_timeout):
                    await _begin(client)
            except (KafkaError, TimeoutError) as error:
                raise await unreachable(settings) from error
            yield cls(settings, client)
        finally:
            await client.close()

    async def create(self, name: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Make a topic; False where there is one of that name. Raises BusError.

        Brokers that have just started are waited for: the controller makes no topic until it has heard of them.
        """
        topic = NewTopic(name, partitions, self._settings.replication, topic_configs=dict(config))
        clock = asyncio.get_running_loop().time
        end = clock() + self._settings.delivery_timeout
        while True:
            code, message = await self._create(topic)
            if code == TopicAlreadyExistsError.errno:
                return False
            if not code:
                logger.info("made topic %s with %d partitions", name, partitions)
                return True
            if "fenced" not in message or clock() > end:
                raise BusError(f"Kafka does not make topic {name}: {message}")
            await asyncio.sleep(_BACKOFF)

    async def _create(self, topic: NewTopic) -> tuple[int, str]:
        """Code and text of the error; 0 where there was none."""
        try:
            answer = await self._client.create_topics([topic])
        except KafkaError as error:
            raise BusError(f"Kafka does not make topic {topic.name}: {error}") from error
        ((_, code, *message),) = answer.topic_errors
        return code, (message and message[0]) or str(for_code(code)())

    async def describe(self, name: str) -> list[dict[str, Any]]:
        """The partitions of a topic: `partition`, `leader`, `replicas`, `isr`; none where there is no such topic."""
        try:
            (topic,) = await self._client.describe_topics([name])
        except KafkaError as error:
            raise BusError(f"Kafka does not describe topic {name}: {error}") from error
        return list(topic["partitions"]) if not topic["error_code"] else []

    async def config(self, name: str, *, own: bool = False) -> dict[str, str]:
        """The settings in force for a topic; only its `own`, where asked. Raises BusError."""
        try:
            (answer,) = await self._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        except KafkaError as error:
            raise BusError(f"Kafka does not tell the settings of {name}: {error}") from error
        ((code, message, _, _, entries),) = answer.resources
        if code:
            raise BusError(f"Kafka does not tell the settings of {name}: {message or for_code(code)()}")
        return {entry[0]: entry[1] for entry in entries if not own or entry[3] == _TOPIC_CONFIG}

    async def set_config(self, name: str, changes: Mapping[str, str]) -> None:
        """Change settings of a topic; the others stay. Raises BusError."""
        everything = {**await self.config(name, own=True), **changes}
        try:
            (answer,) = await self._client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, everything)])
        except KafkaError as error:
            raise BusError(f"Kafka does not change the settings of {name}: {error}") from error
        for code, message, *_ in answer.resources:
            if code:
                raise BusError(f"Kafka does not change the settings of {name}: {message or for_code(code)()}")


async def _begin(client: AIOKafkaAdminClient) -> None:
    """Connect, and wait until a broker is told of.

    One that has just started, or stood still, names no broker, not even itself, until the controller has heard of it.
    aiokafka 0.14 then has nobody to send orders to, and raises AttributeError for each.
    """
    await client.start()
    known = client._client  # noqa: SLF001 - it tells nobody else whom it knows
    while known.cluster.controller is None:
        await asyncio.sleep(_BACKOFF)
        await known.force_metadata_update()


async def migrate(settings: Kafka, partitions: int, stored: Stored | None = None) -> Epoch:
    """Bring topics and registry to an epoch of so many partitions that takes lines; returns it.

    `stored` gives the watermarks of an epoch that the store has. Raises ConfigError where a topic is in the way, or the
    store has lines of an epoch that is to be made; BusError where Kafka can't be used, StoreError.
    """
    async with KafkaAdmin.open(settings) as admin, KafkaQueries.open(settings) as queries:
        if not await admin.describe(control_topic(settings.prefix)):  # before there is anything in the way of a copy
            await _refuse_stored(settings, 1, stored)
        await make_tables(settings, admin, partitions)
        async with Epochs.open(settings) as epochs:
            current = epochs.current if epochs.all else None
            if (
                current is not None
                and current.partitions == partitions
                and not await _is_closing(admin, current, settings)
            ):
                return current
            number = current.number + 1 if current is not None else 1
            await _refuse_stored(settings, number, stored)
            await _make(settings, admin, queries, epochs, number, partitions)
            if current is not None and current.sealed is None:
                await epochs.seal(current.number, await _close(settings, admin, queries, current))
            topic = await queries.topic_id(f"{settings.prefix}.{number}")
            await epochs.announce(Epoch(number, partitions, int(time.time()), topic))
            if epochs.all[number].partitions != partitions:
                raise ConfigError(
                    f"another migration made epoch {number} with {epochs.all[number].partitions} partitions"
                )
            return epochs.all[number]


async def _refuse_stored(settings: Kafka, number: int, stored: Stored | None) -> None:
    """Raises ConfigError where the store has lines of an epoch already: new ones would take their place."""
    if stored is not None and any((await stored(number)).values()):
        raise ConfigError(
            f"the database has lines of epoch {number} already, which this Kafka knows nothing of under "
            f"{settings.prefix}: logsvc restore tells it, or take an empty database"
        )


async def make_tables(settings: Kafka, admin: KafkaAdmin, partitions: int) -> None:
    """The topics that are no epoch's, where they aren't there: drains' with so many partitions. Raises BusError."""
    await admin.create(control_topic(settings.prefix), 1, control_settings(settings))
    await admin.create(dead_topic(settings.prefix), 1, dead_settings(settings))
    await admin.create(drains_topic(settings.prefix), partitions, drains_settings(settings))
    for topic in (control_topic(settings.prefix), drains_topic(settings.prefix)):
        await _until_described(settings, admin, topic)


async def _is_closing(admin: KafkaAdmin, epoch: Epoch, settings: Kafka) -> bool:
    """Whether a migration began to seal the epoch, and maybe ended there."""
    if epoch.sealed is not None:
        return True
    config = await admin.config(epoch.topic(settings.prefix))
    return int(config["max.message.bytes"]) == SEALED_BYTES


async def _until_described(settings: Kafka, admin: KafkaAdmin, name: str) -> list[dict[str, Any]]:
    """A topic that was just made, once brokers know all of it."""
    try:
        async with asyncio.timeout(settings.delivery_timeout):
            while True:
                found = await admin.describe(name)
                if found and all(partition["leader"] >= 0 for partition in found):
                    return found
                await asyncio.sleep(_BACKOFF)  # Kafka tells nobody when it is done
    except TimeoutError:
        raise BusError(f"topic {name} was made, but has no leaders after {settings.delivery_timeout:g} s") from None


async def _make(
    settings: Kafka, admin: KafkaAdmin, queries: KafkaQueries, epochs: Epochs, number: int, partitions: int
) -> None:
    """The topic of an epoch that wasn't announced yet. One that is there must be as if it had just been made."""
    name = f"{settings.prefix}.{number}"
    made = await admin.create(name, partitions, topic_settings(settings))
    found = await _until_described(settings, admin, name)
    if made or number in epochs.all:
        return
    ends = await queries.offsets(name, range(len(found)), LATEST)
    if len(found) != partitions or (any(ends.values()) and number not in epochs.all):
        raise ConfigError(
            f"there is a topic {name} already, with {len(found)} partitions and {sum(ends.values())} records, and "
            "logsvc did not make it: delete it, choose another kafka.prefix, or wait for the migration under way"
        )


async def _close(settings: Kafka, admin: KafkaAdmin, queries: KafkaQueries, epoch: Epoch) -> dict[int, int]:
    """Make brokers refuse every further record of an epoch; where each partition has ended."""
    name = epoch.topic(settings.prefix)
    everything = range(epoch.partitions)
    await admin.set_config(name, {"max.message.bytes": str(SEALED_BYTES)})
    try:
        async with asyncio.timeout(settings.delivery_timeout):
            await _until_refused(settings, name, everything)
            while True:
                # What the leader has and others don't yet will still be acknowledged: wait for that.
                written = await queries.written_ends(name, everything)
                if written == await queries.offsets(name, everything, LATEST):
                    return written
                await asyncio.sleep(_BACKOFF)
    except TimeoutError:
        raise BusError(f"{name} still takes records after {settings.delivery_timeout:g} s: run migrate again") from None


async def _until_refused(settings: Kafka, name: str, partitions: range) -> None:
    """Write fences to each partition until its leader refuses one: then it refuses everything."""
    producer = AIOKafkaProducer(**connection(settings), acks="all")
    await producer.start()
    try:

        async def probe(partition: int) -> None:
            while True:
                try:
                    await producer.send_and_wait(name, b"", partition=partition, headers=FENCE_HEADERS)
                except MessageSizeTooLargeError:
                    return
                await asyncio.sleep(_BACKOFF)

        async with asyncio.TaskGroup() as tasks:
            for partition in partitions:
                tasks.create_task(probe(partition))
    finally:
        await producer.stop()
