"""`kill -9` of the service at any moment: every line once, in order, in a tail that goes on by its cursor, and kept."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.readers import Tail, history, pages, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.support import Tally, until
from tests.support.service import Service

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))

SETTINGS = {"bus.segment_bytes": "1MiB", "bus.hold_back": 0.5, "log.level": "info"}
"""Files of the journal are begun, and deleted, many times in a run."""


async def break_it(service: Service, tail: Tail, writer: Writer, rng: random.Random) -> list[float]:
    """Kill and start it again and again; how long the tail was without a line each time, in seconds."""
    pauses = []
    for number in range(ROUNDS):
        if rng.random() < 0.7:
            wanted = tail.seen.lines + rng.randrange(1, 1500)
            await until(lambda wanted=wanted: tail.seen.lines >= wanted, what=f"line {wanted} in round {number}")
        else:
            # In the middle of a start: the moment is the fault's own, nothing is waited for.
            service.kill()
            service.launch()
            await asyncio.sleep(rng.random() * 1.5)
        for name in writer.names:
            writer.tell(name, tail.seen.tally.next(name))
        service.kill()
        killed, seen = time.monotonic(), tail.seen.lines
        service.launch()
        await until(lambda seen=seen: tail.seen.lines > seen, what=f"a line after kill {number}")
        pauses.append(time.monotonic() - killed)
    return pauses


@pytest.mark.timeout(60 + 6 * ROUNDS)
async def test_no_kill_loses_doubles_or_reorders_a_line(
    tmp_path: Path, rng: random.Random, figures: Callable[[str], None]
) -> None:
    async with Service(tmp_path, settings=SETTINGS) as service:
        await service.start()
        with Writer(service.data, Writing(rate=1000)) as writer:
            tail = Tail(lambda: service.logs)

            async def work() -> tuple[Report, list[float]]:
                pauses = await break_it(service, tail, writer, rng)
                report = writer.finish()
                await until(lambda: tail.seen.tally.complete(report.written), what="the last lines")
                return report, pauses

            report, pauses = await run_while(work(), tail)
        tail.seen.tally.check(report.written)
        assert tail.seen.notices == []
        kept = await history(service.logs)
        kept.tally.check(report.written)
        assert kept.digest == tail.seen.digest
        backwards = [page async for page in pages(service.logs, 5000)]
        paged = Tally()
        for page in reversed(backwards):
            for line in page:
                paged.feed(line["message"])
        paged.check(report.written)
    figures(
        f"{service.starts} starts, {ROUNDS} kills, {report.lines} lines, {report.rotated} files rotated, "
        f"{report.deleted} deleted; {tail.connections} connections; without a line for "
        f"{sorted(pauses)[len(pauses) // 2]:.1f} s (median), {max(pauses):.1f} s (most)"
    )
