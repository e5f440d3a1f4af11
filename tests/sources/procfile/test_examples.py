"""The example that a newcomer runs first does what it shows: a release, orders taken, orders packed."""

import asyncio
from pathlib import Path

from logsvc.sources.procfile.parse import read_procfile
from tests.sources.procfile.support import Run
from tests.support import free_port

EXAMPLES = Path(__file__).parents[3] / "examples"


async def test_the_shop_opens_sells_and_closes(tmp_path: Path):
    text = (EXAMPLES / "Procfile").read_text()
    run = Run(tmp_path, text, directory=EXAMPLES, base_port=free_port())
    assert [entry.name for entry in read_procfile(EXAMPLES / "Procfile")] == ["release", "web", "worker", "clock"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.runner.run())
        await run.wrote("web.1", b'path="/orders" status=201')
        await run.wrote("worker.1", b"order 1")
        await run.runner.stop()
    assert ("stdout", b"Ready for release") in run.lines("release.1")
    assert not [message for _, message in run.said if "R12" in message], "all stop when they are asked"
    assert run.lines("clock.1")[-1] == ("platform", b"State changed from up to down")
