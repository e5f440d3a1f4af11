"""The real application on the real tiers, over a socket."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from tests.api.guarded import Guarded, guarded
from tests.api.served import Served, serving


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all tests here: a process holds one engine, and each test has apps of its own."""
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store"), {0: 7}))
    yield store
    asyncio.run(store.close())


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what is stored from the store: all that tests write is so little that it would be read from the bus."""
    monkeypatch.setattr("logsvc.legs.NEAR", 0)


@pytest.fixture
async def served(store: Store) -> AsyncIterator[Served]:
    async with serving(store) as served:
        yield served


@pytest.fixture
async def site(store: Store, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(store, tmp_path) as site:
        await site.served.rig.write(3)
        yield site
