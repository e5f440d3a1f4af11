"""A store for all tests of drains that need one: a process holds one engine, and each test has a tenant of its own."""

import asyncio
from collections.abc import Iterator

import pytest

from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store"), {0: 7}))
    yield store
    asyncio.run(store.close())
