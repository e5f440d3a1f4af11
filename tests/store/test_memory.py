"""What a read may take of memory: one that needs more is refused, in words that say what to do."""

from pathlib import Path

import pytest

from logsvc.errors import TooCostly
from logsvc.model import Filter
from logsvc.store.embedded import READ_SETTINGS, EmbeddedStore
from tests.support.store import END, chunk_of, new_app, stream_of

MINUTE = 60_000_000_000


async def test_a_search_of_very_long_lines_is_refused_as_too_costly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """However few lines are asked for, the engine looks at many at once where none of them passes."""
    monkeypatch.setitem(READ_SETTINGS, "max_memory_usage", 8_000_000)
    store = await EmbeddedStore.open(tmp_path / "store")
    app, nowhere = new_app(), Filter(grep=("nowhere",))
    await store.insert([chunk_of(stream_of(app), offset, b"x" * 250_000) for offset in range(80)])
    for read in (store.before(app, END, nowhere, 100), store.volume(app, END, nowhere, MINUTE)):
        with pytest.raises(TooCostly, match="narrow it by time, process or dyno"):
            await read
    await store.close()
