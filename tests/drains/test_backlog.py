"""Drains that are further behind than they may be, or than lines are kept: what they skip is counted, or told."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from logsvc.config import Drains
from logsvc.drains.delivery import Backlog
from logsvc.drains.records import positions_of
from logsvc.model import Filter
from logsvc.store.protocol import Store
from tests.drains.desk import Desk, desk
from tests.support import until
from tests.support.receiver import Receiver, answer


@pytest.mark.parametrize("tier", ["bus", "store"])
async def test_a_drain_beyond_its_age_skips_ahead_and_counts_exactly_what_it_skips(
    store: Store, tmp_path: Path, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.legs.NEAR", 0)
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        start = await working.rig.timeline.end()
        await working.write(10, chunks=5)
        skipped, old = working.written, await working.rig.end()
        if tier == "store":
            await working.rig.store_upto(old)
        last = await appended(working, old - 1)
        await until(lambda: time.time() > last + 0.1, what="lines of another time")
        await working.write(10, chunks=5)
        apart = await appended(working, old) - last
        # Half of the time between them is where the limit is: what came before is left out.
        await working.stop()
        limits = Backlog(Drains(backlog_seconds={"tiny": 2 * apart}), "standard")
        now = last + apart / 2 + 2 * apart * 0.9
        working.means = replace(working.means, backlog=limits, now=lambda: now)
        working.start()
        await working.add(receiver.url, plan="tiny", start=start)
        await until(lambda: receiver.verdict.tally.next("w") == working.written)
        assert receiver.verdict.dropped == skipped
        assert receiver.verdict.tally.lines == working.written - skipped


async def appended(working: Desk, offset: int) -> float:
    """When the bus took a chunk, Unix seconds."""
    (chunk, *_) = (await working.rig.bus.read(0, offset, 1)).chunks
    return chunk.appended / 1000


async def test_what_gets_too_old_while_nothing_is_taken_is_counted_before_it_is_gone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.drains.delivery._LOOK", -1.0)
    async with desk(store, tmp_path) as working, Receiver(answer(503)).listening() as receiver:
        drain = await working.add(receiver.url, Filter(process=frozenset({"web"})), plan="tiny")
        await working.write(1)
        await until(lambda: len(receiver.all) > 0)
        await working.write(10, chunks=5)
        last = await appended(working, await working.rig.end() - 1)
        await until(lambda: time.time() > last + 0.1, what="lines of another time")
        after = await working.rig.end()
        await working.write(10, chunks=5)
        apart = await appended(working, after) - last
        await working.stop()
        now = last + apart / 2 + 2 * apart * 0.9
        limits = Backlog(Drains(backlog_seconds={"tiny": 2 * apart}), "standard")
        working.means = replace(working.means, backlog=limits, now=lambda: now)
        working.start()

        def counted() -> bool:
            position = positions_of(working.drains._records)[drain.id]
            return position.lost is not None and position.lost.lines == 50 and len(position.pending) == 1

        await until(counted, what="the lines to be counted")
        receiver.behave = answer()
        await until(lambda: receiver.verdict.tally.next("w") == working.written)
        assert receiver.verdict.dropped == 50
        assert receiver.verdict.tally.lines == 51


async def test_lines_that_are_past_their_retention_before_they_are_taken_are_told_and_counted_where_that_can_be(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.legs.NEAR", 0)
    monkeypatch.setattr("logsvc.drains.delivery._OLD", -1.0)
    async with desk(store, tmp_path) as working, Receiver(answer(503)).listening() as receiver:
        await working.write(1)
        await working.add(receiver.url, Filter(process=frozenset({"web"})))
        await working.write(10)
        await until(working.told)
        await working.write(10)
        kept = await working.rig.end()
        await working.write(10)
        await working.rig.window_is_full()
        window = working.rig.router.window(0)
        assert window is not None
        while len(window):
            window.drop_oldest()
        await working.rig.store.insert((await working.rig.bus.read(0, kept, 1)).chunks)
        await working.rig.commit(kept + 1)
        receiver.behave = answer()
        await until(lambda: receiver.verdict.tally.next("w") == working.written)
        assert [b" 10 messages dropped" in text for text in receiver.verdict.texts if text.startswith(b"Error")] == [
            True
        ]
        await until(lambda: said_gone(working))


async def said_gone(working: Desk) -> bool:
    return len([text for text in await working.told() if text.endswith(b"they are past their retention")]) == 1


def test_a_drain_may_not_be_further_behind_than_lines_are_kept() -> None:
    given = Drains(backlog_seconds={"standard": 100_000.0, "short": 3.0})
    for plan, seconds in [("standard", 82_800.0), ("short", 3.0), ("another", 82_800.0)]:
        assert Backlog(given, "standard", lambda _: 86_400.0).seconds(plan) == seconds
    assert Backlog(given, "standard").seconds("another") == 100_000.0
    assert Backlog(Drains(backlog_seconds={}), "standard", lambda _: 86_400.0).seconds("any") == 82_800.0


async def test_a_drain_too_many_lines_behind_skips_to_the_newest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.drains.delivery._OLD", -1.0)
    async with desk(store, tmp_path, backlog_lines={"tiny": 30}) as working, Receiver().listening() as receiver:
        start = await working.rig.timeline.end()
        await working.write(10, chunks=10)
        await working.add(receiver.url, plan="tiny", start=start)
        await until(lambda: receiver.verdict.tally.next("w") == working.written)
        assert receiver.verdict.dropped == 73
        assert receiver.verdict.tally.lines == 27
