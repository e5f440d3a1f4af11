"""A topic that is deleted and made again, as an operator might by mistake, and what somebody writes to the new one."""

from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from logsvc.bus.kafka_admin import KafkaAdmin, topic_settings
from logsvc.bus.kafka_client import connection
from logsvc.bus.kafka_records import headers
from logsvc.config import Kafka
from logsvc.model import Stream
from tests.support.wait import until

STRANGE: Final = b"1970-01-01T00:00:00Z stdout F of another topic\n"
LINES: Final = 50


async def delete_topic(settings: Kafka, name: str) -> None:
    client = AIOKafkaAdminClient(**connection(settings))
    await client.start()
    await client.delete_topics([name])
    await client.close()


async def make_anew(settings: Kafka, partitions: int) -> None:
    """Delete the topic of epoch 1 and make it again."""
    name = f"{settings.prefix}.1"
    await delete_topic(settings, name)
    async with KafkaAdmin.open(settings) as admin:

        async def gone() -> bool:
            return not await admin.describe(name)

        async def made() -> bool:
            return await admin.create(name, partitions, topic_settings(settings))

        async def led() -> bool:
            found = await admin.describe(name)
            return len(found) == partitions and all(partition["leader"] >= 0 for partition in found)

        await until(gone, what="the topic to be gone")
        await until(made)
        await until(led)


async def write_strange(settings: Kafka, partitions: int, stream: Stream) -> None:
    """LINES chunks to each partition of what has the topic's name now, as logsvc might have written them."""
    producer = AIOKafkaProducer(**connection(settings))
    await producer.start()
    for _ in range(LINES):
        for partition in range(partitions):
            await producer.send(
                f"{settings.prefix}.1",
                STRANGE,
                key=stream.key(),
                partition=partition,
                headers=headers(b"", partial=False),
            )
    await producer.stop()
