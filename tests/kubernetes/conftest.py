"""One Kubernetes for all tests here, and Kafka and ClickHouse in its network. `make test-kubernetes` runs them."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from logsvc.bus.kafka import KafkaBus
from tests.kubernetes.collecting import Collecting
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.kubernetes import Kubernetes, started
from tests.support.roles import Platform

SETTINGS = {"kafka.delivery_timeout": 5, "bus.partitions": 3}


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    if os.geteuid() != 0:
        text = "a cluster of one's own takes root"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    with started() as up:
        yield up


@pytest.fixture(scope="session")
def kafka(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kafka"), address=kubernetes.address) as up:
        yield up


@pytest.fixture(scope="session")
def clickhouse(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with ClickHouse(tmp_path_factory.mktemp("clickhouse"), address=kubernetes.address) as up:
        yield up


@pytest.fixture(params=["files", "api"])
async def collecting(
    request: pytest.FixtureRequest, tmp_path: Path, kubernetes: Kubernetes, kafka: Cluster, clickhouse: ClickHouse
) -> AsyncIterator[Collecting]:
    """A namespace of its own to collect from; nothing runs yet."""
    database = f"logsvc_test_{secrets.token_hex(4)}"
    platform = Platform(tmp_path, kafka, clickhouse, {**SETTINGS, "clickhouse.database": database})
    await platform.migrate(3)
    async with KafkaBus.open(platform.bus) as bus:
        yield Collecting(kubernetes, platform, bus, request.param)
