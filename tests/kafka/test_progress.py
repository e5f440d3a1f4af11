"""How far the store is, as far as Kafka and the store know, while one of them is away."""

from collections.abc import Iterator, Mapping

import pytest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from logsvc.errors import BusError, StoreAway
from tests.support.bus import PARTITIONS
from tests.support.kafka import Cluster, cluster


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kafka that tests may kill."""
    with cluster(tmp_path_factory.mktemp("kafka")) as started:
        yield started


class Recorded:
    """What a store has recorded of the only epoch."""

    def __init__(self) -> None:
        self.marks: Mapping[int, int] | None = {}

    async def __call__(self, epoch: int) -> Mapping[int, int]:
        assert epoch >= 1
        if self.marks is None:
            raise StoreAway("the store can't be reached")
        return self.marks


async def test_a_watermark_that_kafka_does_not_know_or_cannot_tell(broker: Cluster):
    settings = broker.settings(delivery_timeout=5)
    await migrate(settings, PARTITIONS)
    recorded, now = Recorded(), 0.0
    async with KafkaBus.open(settings, recorded=recorded, clock=lambda: now) as bus:
        recorded.marks = None
        assert await bus.watermark(0) == 0

        now += 1
        recorded.marks = {0: 7}
        assert await bus.watermark(0) == 7
        assert await bus.watermark(1) == 0

        broker.brokers[0].pause()
        now += 1
        recorded.marks = {0: 9}
        assert await bus.watermark(0) == 9
        now += 1
        recorded.marks = None
        with pytest.raises(BusError):
            await bus.watermark(0)
        broker.brokers[0].resume()
        now += 1
        assert await bus.watermark(0) == 9
