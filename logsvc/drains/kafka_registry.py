"""The registry on Kafka: records of the control topic, changed by one process at a time, followed by all.

A change is made in a turn (see `KafkaTables`): whoever has read up to its own fence knows all drains, and Kafka refuses
what it writes as soon as somebody else has taken a turn. So nobody decides on what is no longer true, and no record of
a loser is ever there, which compaction could mistake for the winner's.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from logsvc.bus.epochs import Epochs, control_topic
from logsvc.bus.kafka_batch import Outgoing
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.bus.kafka_tables import KafkaTables, Table, drains_topic
from logsvc.bus.kafka_writer import KafkaWriter
from logsvc.config import Kafka
from logsvc.drains.model import Drain, DrainStatus
from logsvc.drains.records import STATUS, DrainTable, drain_key, status_key
from logsvc.drains.registry import Change
from logsvc.drains.watched import Watched
from logsvc.errors import BusError, Fenced, NewerFormat
from logsvc.tasks import background
from logsvc.together import Together

_TRIES: Final = 10
_PAUSE: Final = 0.05
"""Seconds for which one that lost its turn lets others have theirs, at most, the first time."""

logger = logging.getLogger(__name__)


class KafkaRegistry:
    """See `Registry`. Made by `open`."""

    def __init__(self, epochs: Epochs, control: KafkaTables, writer: KafkaWriter, positions: KafkaTables) -> None:
        self._epochs, self._control, self._writer = epochs, control, writer
        self._positions = positions
        self._changing = asyncio.Lock()
        self._table = DrainTable()
        self._refused: NewerFormat | None = None
        self._drains = Watched(self._table.drains)
        self._statuses: dict[int, Table] = {}
        self._read = Together(positions.read)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka, epochs: Epochs) -> AsyncIterator["KafkaRegistry"]:
        """Follow it for the block, which `epochs` has to outlive. Raises ConfigError before `migrate`, BusError."""
        async with (
            KafkaQueries.open(settings) as queries,
            KafkaTables.open(settings, control_topic(settings.prefix), queries) as control,
            KafkaTables.open(settings, drains_topic(settings.prefix), queries) as positions,
            background() as tasks,
        ):
            writer = control.writer("drains")
            registry = cls(epochs, control, writer, positions)
            registry._take()
            following = tasks.create_task(registry._follow(), name="drains")
            try:
                yield registry
            finally:
                following.cancel()
                await writer.close()

    # ---- what there is

    @property
    def drains(self) -> Mapping[str, Drain]:
        return self._drains.value

    async def changed(self, seen: Mapping[str, Drain]) -> Mapping[str, Drain]:
        """See `Registry.changed`."""
        return await self._drains.changed(seen)

    async def _follow(self) -> None:
        while True:
            await self._epochs.changed()
            self._take()

    def _take(self) -> None:
        """Have `drains` say what was read. What only a newer logsvc understands is left as it was before."""
        try:
            self._table.update(self._epochs.others)
        except NewerFormat as error:
            if self._refused is None:
                logger.warning("drains stay as they were: %s", error)
            self._refused = error
            return
        self._refused = None
        if self._table.drains is not self._drains.value:
            self._drains.set(self._table.drains)

    async def statuses(self, drains: list[Drain]) -> Mapping[str, DrainStatus]:
        """See `Registry.statuses`; read from where they are written, when they are asked for."""
        by_share: dict[int, list[Drain]] = defaultdict(list)
        for drain in drains:
            by_share[drain.app_id.partition(self._positions.partitions)].append(drain)
        found = {}
        for share, of_share in by_share.items():
            table = self._statuses.setdefault(share, Table(share, STATUS))
            await self._read(table)
            for drain in of_share:
                value = table.values.get(status_key(drain.id))
                if value is not None:
                    found[drain.id] = DrainStatus.parse(value)
        return found

    # ---- changes

    async def refreshed(self) -> Mapping[str, Drain]:
        """See `Registry.refreshed`."""
        async with self._changing:
            await self._take_turn()
            return self.drains

    async def change(self, change: Change) -> Drain | None:
        """See `Registry.change`."""

        def decide() -> tuple[bytes, bytes | None, Drain] | None:
            drain = change(self.drains)
            return None if drain is None else (drain_key(drain.id), drain.encode(), drain)

        return await self._in_turn(decide)

    async def remove(self, drain: str) -> bool:
        """See `Registry.remove`."""

        def decide() -> tuple[bytes, bytes | None, Drain] | None:
            known = self.drains.get(drain)
            return None if known is None else (drain_key(drain), None, known)

        return await self._in_turn(decide) is not None

    async def _in_turn(self, decide: Callable[[], tuple[bytes, bytes | None, Drain] | None]) -> Drain | None:
        """Write what `decide` says of what nobody else can change meanwhile. Raises BusError, and what it raises."""
        async with self._changing:
            for attempt in range(_TRIES):
                await self._take_turn()
                decided = decide()
                if decided is None:
                    return None
                key, value, drain = decided
                try:
                    await self._read_to(await self._writer.submit(0, Outgoing(key, value, ())))
                except Fenced:
                    most = _PAUSE * 2**attempt
                    await asyncio.sleep(random.uniform(0, most))  # noqa: S311 - spreads processes out, guards nothing
                else:
                    return drain
        raise BusError("others keep changing drains: try again")

    async def _take_turn(self) -> None:
        """Have read all that was changed before, and be who changes now. Raises BusError, NewerFormat."""
        await self._read_to(await self._control.take_turn(self._writer, 0))
        if self._refused is not None:
            raise self._refused

    async def _read_to(self, offset: int) -> None:
        await self._epochs.read_to(offset)
        self._take()
