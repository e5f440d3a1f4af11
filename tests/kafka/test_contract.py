"""A topic of Apache Kafka keeps the contract of every bus."""

import pytest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import migrate
from tests.contract.bus import BusContract, Opener
from tests.support.bus import PARTITIONS
from tests.support.kafka import Cluster


class TestKafkaBus(BusContract):
    @pytest.fixture
    async def opener(self, kafka: Cluster) -> Opener:
        settings = kafka.settings()
        await migrate(settings, PARTITIONS)
        return lambda: KafkaBus.open(settings)
