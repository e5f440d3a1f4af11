"""What Kafka alone knows, as a copy that an empty Kafka can be given: epochs, what operators have said, drains.

Lines are not in it: they are the store's, and what it lacks is in the nodes' files. `docs/formats.md` has the file.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from logsvc.bus.epochs import Epoch, Registry, control_topic
from logsvc.bus.kafka_admin import KafkaAdmin, make_tables
from logsvc.bus.kafka_client import connection
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.bus.kafka_tables import KafkaTables, Table, drains_topic
from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError, FormatError, NewerFormat

VERSION: Final = 1
_SEALED: Final = b"sealed/"

Values = Mapping[bytes, bytes]
"""The last value of each key."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What stood on the two compacted topics. Pure."""

    made: int
    """Unix ms."""
    control: Values
    drains: tuple[Values, ...]
    """By partition."""

    @property
    def epochs(self) -> Mapping[int, Epoch]:
        """By number."""
        registry = Registry()
        for key, value in self.control.items():
            registry.apply(key, value)
        return registry.all

    def encode(self) -> bytes:
        head = {"v": VERSION, "made": self.made, "partitions": len(self.drains)}
        records = [("control", 0, self.control), *(("drains", number, each) for number, each in enumerate(self.drains))]
        lines = [head, *(line for name, number, values in records for line in _lines(name, number, values))]
        return b"".join(orjson.dumps(line) + b"\n" for line in lines)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError; NewerFormat for what a newer logsvc wrote."""
        try:
            head, *lines = map(orjson.loads, data.splitlines())
            if head["v"] > VERSION:
                raise NewerFormat(f"the copy has format {head['v']}, and this logsvc knows those up to {VERSION}")
            control: dict[bytes, bytes] = {}
            drains: list[dict[bytes, bytes]] = [{} for _ in range(head["partitions"])]
            for line in lines:
                values = {"control": [control], "drains": drains}[line["topic"]][line["partition"]]
                values[line["key"].encode()] = line["value"].encode()
            return cls(int(head["made"]), control, tuple(drains))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise FormatError(f"not a copy that logsvc backup has made: {error!r}") from error


def _lines(name: str, partition: int, values: Values) -> Iterator[dict[str, Any]]:
    for key, value in values.items():
        try:
            yield {"topic": name, "partition": partition, "key": key.decode(), "value": value.decode()}
        except UnicodeDecodeError:
            continue  # another tool's: everything of logsvc is text


async def take(settings: Kafka) -> Copy:
    """Read all of it. Raises ConfigError before `migrate`, BusError."""
    async with KafkaQueries.open(settings) as queries:
        (control,) = await _read(settings, control_topic(settings.prefix), queries)
        drains = await _read(settings, drains_topic(settings.prefix), queries)
    return Copy(time.time_ns() // 1_000_000, control, drains)


async def _read(settings: Kafka, topic: str, queries: KafkaQueries) -> tuple[Values, ...]:
    async with KafkaTables.open(settings, topic, queries) as tables:
        found = [Table(partition) for partition in range(tables.partitions)]
        for table in found:
            await tables.read(table)
    return tuple(table.values for table in found)


async def put(settings: Kafka, copy: Copy, ends: Mapping[int, Mapping[int, int]]) -> None:
    """Make the topics as the copy has them; `ends` is where each epoch ends by partition, and every one is sealed.

    Raises ConfigError where there are topics already, BusError.
    """
    names = {"control": control_topic(settings.prefix), "drains": drains_topic(settings.prefix)}
    async with KafkaAdmin.open(settings) as admin:
        for name in names.values():
            if await admin.describe(name):
                raise ConfigError(
                    f"there is a topic {name} already: a copy goes into an empty Kafka, or another prefix"
                )
        await make_tables(settings, admin, len(copy.drains))
    control = {key: value for key, value in copy.control.items() if not key.startswith(_SEALED)}
    for number, places in ends.items():
        seal = {"ends": [places[partition] for partition in sorted(places)]}
        control[b"%b%d/%b" % (_SEALED, number, secrets.token_hex(4).encode())] = orjson.dumps(seal)
    producer = AIOKafkaProducer(**connection(settings), acks="all")
    try:
        await producer.start()
        await _write(producer, names["drains"], enumerate(copy.drains))
        await _write(producer, names["control"], [(0, control)])
    except KafkaError as error:
        raise BusError(f"the copy can't be written: {error}") from error
    finally:
        await producer.stop()


async def _write(producer: AIOKafkaProducer, topic: str, tables: Iterable[tuple[int, Values]]) -> None:
    sent = [
        await producer.send(topic, value, key=key, partition=partition)
        for partition, values in tables
        for key, value in values.items()
    ]
    for written in sent:
        await written
