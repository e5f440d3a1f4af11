"""Connections cut at any byte, in every form, under load: whoever goes on by cursor misses and repeats nothing."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.chaos.proxy import cutting
from tests.chaos.readers import FORMS, Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.client import program
from tests.support import Tally, until
from tests.support.service import Service

CUTS = int(os.environ.get("CHAOS_CUTS", "12"))


@pytest.mark.timeout(400)
async def test_tails_cut_at_random_bytes_piece_the_log_together(
    tmp_path: Path, rng: random.Random, figures: Callable[[str], None]
) -> None:
    async with Service(tmp_path) as service, AsyncExitStack() as stack:
        await service.start()
        with Writer(service.data, Writing(rate=1000)) as writer:
            wires = [await stack.enter_async_context(cutting(lambda: service.port, rng, 100_000)) for _ in FORMS]
            tails = [
                Tail(lambda wire=wire: service.logs.replace(f":{service.port}/", f":{wire.port}/"), form)
                for form, wire in zip(FORMS, wires, strict=True)
            ]

            async def work() -> Report:
                await until(lambda: all(wire.cuts >= CUTS for wire in wires), 240, f"{CUTS} cuts of each")
                report = writer.finish()
                for wire in wires:
                    wire.cutting = False
                await until(lambda: all(tail.seen.tally.complete(report.written) for tail in tails), what="the end")
                return report

            report = await run_while(work(), *tails)
        for form, tail in zip(FORMS, tails, strict=True):
            tail.seen.tally.check(report.written)
            assert tail.seen.notices == [], form
            kept = await history(service.logs, "text" if form == "text" else "ndjson")
            assert kept.digest == tail.seen.digest, form
    cuts = {form: wire.cuts for form, wire in zip(FORMS, wires, strict=True)}
    figures(f"{report.lines} lines in each form; cuts {cuts}")


async def test_the_command_goes_on_through_restarts(tmp_path: Path, figures: Callable[[str], None]) -> None:
    restarts = 3
    tally = Tally()
    async with Service(tmp_path) as service:
        await service.start()
        with Writer(service.data, Writing(rate=1000)) as writer:
            tail = Tail(lambda: service.logs)
            await run_while(until(lambda: tail.seen.lines > 0, what="the app"), tail)
            with program.start("logs", "--tail", "-n", "100000", "-a", "demo", url=service.url) as client:
                reading = asyncio.create_task(asyncio.to_thread(_read, client, tally))
                try:
                    for number in range(restarts):
                        wanted = tally.lines + 1000
                        await until(lambda wanted=wanted: tally.lines >= wanted, 30, f"lines before restart {number}")
                        if number % 2:
                            assert await service.stop() == 0
                        else:
                            service.kill()
                        await service.start()
                    report = writer.finish()
                    await until(lambda: tally.complete(report.written), 30, "the last lines")
                finally:
                    client.terminate()
                    await reading
                    assert client.stderr is not None
                    said = client.stderr.read().decode()
                    sys.stdout.write(said)
    tally.check(report.written)
    assert said.count("connected again after") == restarts
    figures(f"paas logs --tail: {report.lines} lines through {restarts} restarts")


def _read(client: "subprocess.Popen[bytes]", tally: Tally) -> None:
    assert client.stdout is not None
    for line in client.stdout:
        assert b" platform[logsvc]: " not in line, line
        tally.feed(line)
