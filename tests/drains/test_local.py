"""Drains in a file of the data folder keep the contract, and a file that can't be used is said so."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from logsvc.drains.local import LocalDrains
from logsvc.errors import ConfigError, NewerFormat
from tests.contract.drains import DrainsContract, Kept, Opener, adding, drain, position


class TestLocalDrains(DrainsContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        @asynccontextmanager
        async def opened():
            async with LocalDrains.open(tmp_path) as drains:
                yield Kept(drains, drains)

        return opened


WRITER = """
import asyncio, sys
from pathlib import Path
from logsvc.drains.local import LocalDrains
from tests.contract.drains import position

async def main():
    async with LocalDrains.open(Path(sys.argv[1])) as drains, drains.hold(0) as held:
        number = 0
        while True:
            await held.save("x", position(number))
            print(number, flush=True)
            number += 1

asyncio.run(main())
"""


async def test_what_was_saved_survives_kill_9(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    saved = -1
    async for line in process.stdout:
        saved = int(line)
        if saved == 500:
            process.kill()
    await process.wait()
    async with LocalDrains.open(tmp_path) as drains, drains.hold(0) as held:
        assert held.position("x") in (position(saved), position(saved + 1))  # one may be written and not yet told


async def test_a_file_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "drains.sqlite").write_bytes(b"not a database, and longer than a header of one" * 10)
    with pytest.raises(ConfigError, match=r"the file of drains .* can't be used"):
        async with LocalDrains.open(tmp_path):
            pass


async def test_what_a_newer_logsvc_wrote_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalDrains.open(tmp_path) as drains:
        with monkeypatch.context() as newer:
            newer.setattr("logsvc.drains.model.VERSION", 2)
            await drains.change(adding(drain()))
    with pytest.raises(NewerFormat):
        async with LocalDrains.open(tmp_path):
            pass
