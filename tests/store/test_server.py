"""A store on a ClickHouse server keeps the contract of every store."""

from collections.abc import AsyncIterator

import pytest

from logsvc.config import ClickHouse as Settings
from logsvc.store.protocol import Store
from logsvc.store.server import ServerStore
from tests.contract.store import StoreContract


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A client is of one event loop, and each test has its own; the data is that of all tests here."""
    store = ServerStore(settings, keep={1: 1})
    await store.migrate()
    yield store
    await store.close()


class TestServerStore(StoreContract):
    pass
