"""A store that can't work says so in a sentence that somebody can act on, and goes on when it can again."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from errno import ENOSPC
from pathlib import Path

import pytest

from logsvc.errors import ConfigError, StoreError
from logsvc.model import EVERYTHING
from logsvc.store.embedded import EmbeddedStore
from logsvc.store.engine import DAMAGED, DISK_FULL, explain
from tests.support.store import END, chunk_of, messages_of, new_app, stream_of

APP = new_app()
Opener = Callable[[Path], Awaitable[EmbeddedStore]]


@pytest.fixture
async def open_store() -> AsyncIterator[Opener]:
    """Opens stores, and closes what a test left open: the process holds one engine."""
    async with AsyncExitStack() as stack:

        async def open_and_close(folder: Path) -> EmbeddedStore:
            store = await EmbeddedStore.open(folder)
            stack.push_async_callback(store.close)
            return store

        yield open_and_close


@pytest.fixture
async def folder(tmp_path: Path, open_store: Opener) -> Path:
    """The folder of a closed store with one line in it."""
    store = await open_store(tmp_path / "store")
    await store.insert([chunk_of(stream_of(APP), 0, b"hello")])
    await store.close()
    return tmp_path / "store"


def part_of_lines(folder: Path) -> Path:
    """The data of the one part that holds the line."""
    (part,) = folder.glob("store/*/*/20261123-0_*/data.bin")
    return part


async def test_a_full_disk_stops_inserts_until_there_is_space(folder: Path, open_store: Opener):
    store = await open_store(folder)
    limit = "ALTER TABLE lines MODIFY SETTING min_free_disk_bytes_to_perform_insert = "
    await store._engine.command(limit + str(1 << 60))

    with pytest.raises(StoreError, match=DISK_FULL):
        await store.insert([chunk_of(stream_of(APP), 1, b"later")])
    assert messages_of(await store.before(APP, END, EVERYTHING, 10)) == [b"hello"]

    await store._engine.command(limit + "0")
    await store.insert([chunk_of(stream_of(APP), 1, b"later")])
    assert messages_of(await store.before(APP, END, EVERYTHING, 10)) == [b"hello", b"later"]


async def test_a_full_disk_for_the_engines_own_files_is_a_full_disk():
    assert str(explain(OSError(ENOSPC, "No space left on device"))) == DISK_FULL


async def test_a_damaged_folder_is_not_opened_and_left_as_it_is(folder: Path, open_store: Opener):
    data = part_of_lines(folder)
    whole = data.read_bytes()
    data.write_bytes(whole[:50])

    with pytest.raises(StoreError, match="data folder is damaged"):
        await open_store(folder)

    data.write_bytes(whole)
    store = await open_store(folder)
    assert messages_of(await store.before(APP, END, EVERYTHING, 10)) == [b"hello"]


async def test_damaged_lines_are_an_error_and_never_left_out(folder: Path, open_store: Opener):
    data = part_of_lines(folder)
    data.write_bytes(bytes(byte ^ 0xFF for byte in data.read_bytes()))

    store = await open_store(folder)
    with pytest.raises(StoreError, match=DAMAGED):
        await store.before(APP, END, EVERYTHING, 10)


async def test_a_folder_in_use_is_refused(folder: Path, tmp_path: Path, open_store: Opener):
    await open_store(folder)
    with pytest.raises(ConfigError, match="another folder"):
        await open_store(tmp_path / "other")

    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.inserter", folder, "0", "0", stderr=asyncio.subprocess.PIPE
    )
    _, said = await other.communicate()
    assert b"ConfigError: another process uses the store" in said


async def test_a_file_in_the_folders_place_is_refused(tmp_path: Path, open_store: Opener):
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(StoreError, match="can't use its files: File exists"):
        await open_store(tmp_path / "store")


async def test_closing_twice_is_closing_once(folder: Path, open_store: Opener):
    store = await open_store(folder)
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.before(APP, END, EVERYTHING, 10)
