"""What all tests of drains share: a store, as a process holds one engine and each test has a tenant of its own; and
certificates."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from logsvc.store.embedded import EmbeddedStore
from logsvc.store.protocol import Store
from tests.support.certificates import authority, signed


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = asyncio.run(EmbeddedStore.open(tmp_path_factory.mktemp("store"), {0: 7}))
    yield store
    asyncio.run(store.close())


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An authority, and key and certificate of 127.0.0.1 that it has signed."""
    folder = tmp_path_factory.mktemp("certificates")
    key, ca = authority(folder, "authority")
    return ca, signed(folder, "receiver", key, ca)
