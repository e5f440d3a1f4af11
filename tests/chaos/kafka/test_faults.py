"""Roles, Kafka and ClickHouse killed, stopped, slowed and re-partitioned under load: every line once, in order.

`make chaos MINUTES=0` makes each fault once, with a tenth of the load; MINUTES=30 goes on for so long. CHAOS_SEED
says in which order, and to whom. Times are shown beside their targets and not asserted: they are the machine's too.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.kafka.faults import Fault, faults, stop
from tests.chaos.kafka.form import Form, form
from tests.chaos.kafka.report import ChaosReport, Trial
from tests.chaos.kafka.rig import Rig, rig

AWAY = "The store is away: older lines come when it is back"
FORM = form()


def schedule(form: Form, rng: random.Random) -> Iterator[Fault]:
    """Each fault once a round, in an order of its own, until the time is over; but each of them once."""
    end = time.monotonic() + form.minutes * 60
    yield from rng.sample(faults(form), len(faults(form)))
    while True:
        for fault in rng.sample(faults(form), len(faults(form))):
            if time.monotonic() >= end:
                return
            yield fault


@pytest.mark.timeout(900 + 120 * FORM.minutes)
async def test_no_fault_loses_doubles_or_reorders_a_line(
    tmp_path: Path, seed: int, rng: random.Random, figures: Callable[[str], None]
) -> None:
    report = ChaosReport(seed, FORM)
    try:
        async with rig(tmp_path, FORM, random.Random(seed)) as running:
            await make_faults(running, rng, report, figures if FORM.minutes else print)
            await count(running, report)
    finally:
        figures(str(report))
        report.write()


async def make_faults(running: Rig, rng: random.Random, report: ChaosReport, tell: Callable[[str], None]) -> None:
    report.tails = len(running.watched)
    first = time.monotonic()
    for fault in schedule(running.form, rng):
        began = time.monotonic()
        tell(f"{time.strftime('%H:%M:%S')} {fault.name}")
        async with running.measured():
            await fault.make(running, rng)
            took = time.monotonic() - began
        running.tell()
        last = f"{running.last.app}, {running.last.form}"
        report.trials.append(
            Trial(
                fault.name,
                fault.target,
                began - first,
                took,
                running.latency,
                running.recovery,
                last,
                running.drains_recovery,
                fault.of_drains,
            )
        )


async def count(running: Rig, report: ChaosReport) -> None:
    """Every line that was written: in each tail, in the history that each server gives, in ClickHouse alone, and at the
    receiver of drains, there by the first receipt of each frame.
    """
    written = await running.finish()
    report.written = sum(sum(lines.values()) for lines in written.values())
    report.connections = sum(each.tail.connections for each in running.watched)
    stored = await running.read_store([*written])
    for app, lines in written.items():
        report.count("ClickHouse", app, stored[app], lines)
        histories = await running.read_histories(app)
        for seen in histories:
            report.count("history", app, seen.tally, lines)
        if len({seen.digest for seen in histories}) > 1:
            report.wrong.append(f"{app}: servers differ")
        for each in running.watched:
            if each.app == app:
                report.count("tails", f"{app} as {each.form}", each.tail.seen.tally, lines)
                report.wrong += [f"{app} as {each.form}: {text}" for text in each.tail.seen.notices if AWAY not in text]
                if each.is_whole and each.tail.seen.digest != histories[0].digest:
                    report.wrong.append(f"{app} as {each.form}: not what history has")
    for drained in running.drained:
        place = "drains" if drained.ordered else "drain of waived order"
        report.count(place, drained.app, drained.seen.tally, written[drained.app], ordered=drained.ordered)
        report.repeated += drained.repeated
        report.wrong += [f"drain of {drained.app}: {text}" for text in drained.wrong]
    for role in running.roles:
        await stop(role)
    report.wrong += [f"ended by itself: {role}" for role in running.ended]
    assert report.wrong == []
