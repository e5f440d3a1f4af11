"""Retention has passed a reader's cursor by: it is told at that place, in every form, and gets all that is left."""

import asyncio
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.chaos.readers import FORMS, Tail, history, run_while
from tests.chaos.writer import ROOT, Report, Writer, Writing
from tests.support import until
from tests.support.service import Service

# What the service does every hour, a month from now.
LATER = """
import asyncio, sys, time
from pathlib import Path
from logsvc.store.embedded import EmbeddedStore

async def main():
    store = await EmbeddedStore.open(Path(sys.argv[1]), {0: 7})
    await store.retain(int(time.time()) + 30 * 86400)
    await store.close()

asyncio.run(main())
"""


def unstored(service: Service) -> int:
    """Records on the bus that the store does not have yet."""
    with urllib.request.urlopen(f"{service.url}/metrics") as answer:
        found = re.search(r"^logsvc_store_lag_records ([0-9.]+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def segments(service: Service) -> list[str]:
    """The journal's files, oldest first."""
    return sorted(path.name for path in (service.data / "bus").glob("*.journal"))


async def write(service: Service, name: str, tails: list[Tail]) -> Report:
    """Have lines written, and read by all."""
    with Writer(service.data, Writing((name,), lines=2000, rate=20_000, long_every=0)) as writer:

        async def work() -> Report:
            report = await asyncio.to_thread(writer.wait)
            await until(lambda: all(tail.seen.tally.complete(report.written) for tail in tails))
            await until(lambda: unstored(service) == 0)
            return report

        return await run_while(work(), *tails)


async def test_a_cursor_that_retention_has_passed(tmp_path: Path) -> None:
    async with Service(tmp_path, settings={"bus.segment_bytes": "16KiB", "bus.hold_back": 0}) as service:
        await service.start()
        whole = Tail(lambda: service.logs)
        await write(service, "old", [whole])
        early = await history(service.logs, after=whole.seen.first, num="10")
        assert early.lines == 10
        # Another app's lines, until the journal has let go of these.
        newest = segments(service)[-1]
        with Writer(service.data, Writing(("filler",), "other", rate=5_000, long_every=0)) as writer:
            await until(lambda: segments(service)[0] > newest, what="the journal to let go of the first lines")
            await asyncio.to_thread(writer.finish)
        await until(lambda: unstored(service) == 0)
        assert await service.stop() == 0
        command = [sys.executable, "-c", LATER, str(service.data / "store")]
        await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True)
        await service.start()
        tails = [Tail(lambda: service.logs, form) for form in FORMS]
        for tail in tails:
            tail.seen.cursor = early.cursor
        new = await write(service, "new", tails)
        for form, tail in zip(FORMS, tails, strict=True):
            tail.seen.tally.check(new.written)
            assert len(tail.seen.notices) == 1, form
            assert "past their retention" in tail.seen.notices[0], form
        (await history(service.logs)).tally.check(new.written)
        assert await service.stop() == 0
