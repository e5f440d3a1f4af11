"""A Kafka and a ClickHouse for all tests of roles; each test has topics and a database of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.roles import Platform

SETTINGS = {"kafka.delivery_timeout": 5, "http.grace": 5, "bus.partitions": 3}


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("kafka")
    with cluster(folder) as started:
        yield started


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as started:
        yield started


@pytest.fixture
def platform(tmp_path: Path, kafka: Cluster, clickhouse: ClickHouse) -> Platform:
    """Not migrated yet."""
    database = f"logsvc_test_{secrets.token_hex(4)}"
    return Platform(tmp_path, kafka, clickhouse, {**SETTINGS, "clickhouse.database": database})
