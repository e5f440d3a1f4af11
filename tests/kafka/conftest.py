"""One Kafka for all tests in here; each test has topics of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka import Cluster, cluster


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("kafka")
    with cluster(folder) as started:
        yield started
