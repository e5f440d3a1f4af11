"""Connections cut at any byte, in every form, under load: whoever goes on by cursor misses and repeats nothing."""

import asyncio
import os
import random
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.chaos.proxy import cutting
from tests.chaos.readers import FORMS, Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.client import program
from tests.support import Tally, until
from tests.support.service import Service

CUTS = int(os.environ.get("CHAOS_CUTS", "25"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**9)


async def test_tails_cut_at_random_bytes_piece_the_log_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    async with Service(tmp_path) as service, AsyncExitStack() as stack:
        await service.start()
        with Writer(service.data, Writing(rate=1000)) as writer:
            wires = [await stack.enter_async_context(cutting(lambda: service.port, rng, 150_000)) for _ in FORMS]
            tails = [
                Tail(lambda wire=wire: service.logs.replace(f":{service.port}/", f":{wire.port}/"), form)
                for form, wire in zip(FORMS, wires, strict=True)
            ]

            async def work() -> Report:
                await until(lambda: all(wire.cuts >= CUTS for wire in wires), 60, f"{CUTS} cuts of each")
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
    with capsys.disabled():
        cuts = {form: wire.cuts for form, wire in zip(FORMS, wires, strict=True)}
        print(f"\n  seed {SEED}: {report.lines} lines in each form; cuts {cuts}")


async def test_the_command_goes_on_through_cuts_and_restarts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    restarts = 3
    tally = Tally()
    async with (
        Service(tmp_path) as service,
        cutting(lambda: service.port, rng, 400_000) as wire,
    ):
        await service.start()
        with Writer(service.data, Writing(rate=1000)) as writer:
            seen = Tail(lambda: service.logs)
            await run_while(until(lambda: seen.seen.lines > 0, what="the app"), seen)
            client = program.start("logs", "--tail", "-n", "100000", "-a", "demo", url=f"http://127.0.0.1:{wire.port}")
            try:
                reading = asyncio.create_task(asyncio.to_thread(_read, client, tally))
                for number in range(restarts):
                    wanted = tally.lines + 1000
                    await until(lambda wanted=wanted: tally.lines >= wanted, 30, f"lines before restart {number}")
                    service.kill()
                    await service.start()
                report = writer.finish()
                wire.cutting = False
                await until(lambda: tally.complete(report.written), 30, "the last lines")
            finally:
                client.terminate()
                said = await asyncio.to_thread(_rest, client)
                await reading
    tally.check(report.written)
    assert b"logsvc]" not in said[0]
    with capsys.disabled():
        print(f"\n  paas logs --tail: {report.lines} lines through {restarts} kill -9 and {wire.cuts} cuts")


def _read(client: "subprocess.Popen[bytes]", tally: Tally) -> None:
    assert client.stdout is not None
    for line in client.stdout:
        assert line.endswith(b"\n") or client.poll() is not None
        tally.feed(line)


def _rest(client: "subprocess.Popen[bytes]") -> tuple[bytes, int]:
    assert client.stderr is not None
    said = client.stderr.read()
    return said, client.wait(10)
