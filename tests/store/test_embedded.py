"""The embedded store keeps the contract of every store."""

import asyncio
from collections.abc import Iterator

import pytest

from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from tests.contract.store import StoreContract


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all tests here: a process holds one engine. It is of no event loop, so each test's will do."""
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store"), keep={1: 1}))
    yield store
    asyncio.run(store.close())


class TestEmbeddedStore(StoreContract):
    pass
