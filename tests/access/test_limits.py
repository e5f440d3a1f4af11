"""Limits by tenant and plan: over one it is refused, and nobody else notices."""

import asyncio
from dataclasses import replace

import pytest

from logsvc.access.grant import READ, Grant
from logsvc.access.limits import WAITING, Limits, Plan, Reading
from logsvc.config import Limits as Settings
from logsvc.errors import OverLimit
from tests.support.wait import until


def grant(tenant: str = "acme", plan: str = "free") -> Grant:
    return Grant("anna", tenant, frozenset({READ}), plan=plan)


def test_a_plan_says_what_may_be_had_and_the_default_what_nobody_said() -> None:
    settings = Settings(
        default="free",
        tails={"free": 1, "pro": 9},
        answers={"free": 4},
        query_seconds={"free": 2.0},
        read_bytes={"free": 1000},
        read_rows={"free": 70},
        reads={"free": 3},
        push_bytes={"free": 10},
        posts={"free": 8},
        retention={"pro": 3},
        drains={"free": 2},
    )
    limits = Limits(settings)
    assert limits.plan(grant()) == Plan(1, 4, 2.0, 1000, 70, 3, 10, 8, 0, 2)
    assert limits.plan(grant(plan="pro")) == Plan(9, retention=3)
    assert limits.plan(grant(plan="unknown")) == limits.plan(grant(plan="")) == limits.plan(grant())
    assert Limits().plan(grant()) == Plan()


@pytest.mark.parametrize("plan", ["free", "starter", "standard", "pro"])
def test_no_plan_is_without_a_limit(plan: str) -> None:
    """By default a pattern over years, or a client that never reads, costs no plan more than it says."""
    assert None not in Limits(Settings()).plan(grant(plan=plan))


@pytest.mark.parametrize("what", ["tail", "answer", "post"])
def test_what_is_had_at_once_is_counted_by_tenant(what: str) -> None:
    limits = Limits(Settings(tails={"free": 2}, answers={"free": 2}, posts={"free": 2}))
    counted = getattr(limits, what)
    with counted(grant()), counted(grant()):
        with pytest.raises(OverLimit, match=f"2 {what}s at once") as refused:
            counted(grant()).__enter__()
        assert refused.value.retry_after > 0
        with counted(grant("other")):
            pass
    with counted(grant()):
        pass
    assert not limits._tails
    assert not limits._answers
    assert not limits._posts


def test_an_operator_is_counted_apart_from_the_tenant_that_it_has_chosen() -> None:
    limits = Limits(Settings(tails={"free": 1}, push_bytes={"free": 100}), lambda: 0.0)
    operator = Grant("ops", "acme", frozenset({READ}), plan="free", operator=True)
    with limits.tail(grant()), limits.tail(operator), pytest.raises(OverLimit):
        limits.tail(replace(operator, tenant="other")).__enter__()
    assert limits.pushed(operator, 1001)
    assert not limits.pushed(grant(), 1000)


async def test_reads_of_a_tenant_take_turns_and_others_do_not_wait_for_them() -> None:
    limits = Limits(Settings(reads={"free": 2}, read_rows={}))
    running, most, done = 0, 0, asyncio.Event()

    async def read(whose: Grant) -> None:
        nonlocal running, most
        reading = limits.reading(whose)
        assert reading is not None
        async with reading.turn():
            running += 1
            most = max(most, running)
            await done.wait()
            running -= 1

    async with asyncio.TaskGroup() as tasks:
        mine = [tasks.create_task(read(grant())) for _ in range(2 + WAITING)]
        await until(lambda: running == 2)
        with pytest.raises(OverLimit, match="2 reads of history at once"):
            await read(grant())
        mine.pop().cancel()  # whoever leaves makes room for another
        await asyncio.sleep(0)
        mine.append(tasks.create_task(read(grant())))
        other = tasks.create_task(read(grant("other")))
        await until(lambda: running == 3)
        done.set()
    assert other.done()
    assert (most, running) == (3, 0)
    assert not limits._turns
    assert Limits().reading(grant()) is None


async def test_rows_that_were_read_too_much_are_made_up_for_before_anything_else_is_read() -> None:
    now = 0.0
    limits = Limits(Settings(reads={}, read_rows={"free": 100}), lambda: now)

    async def read(reading: Reading | None, rows: int) -> None:
        assert reading is not None
        async with reading.turn() as count:
            count(rows)

    begun = limits.reading(grant())
    await read(begun, 100 * 60)
    with pytest.raises(OverLimit, match="100 rows a second") as refused:
        await read(limits.reading(grant()), 1)
    assert refused.value.retry_after > 0
    await read(limits.reading(grant("other")), 1)
    now = 2.0
    await read(limits.reading(grant()), 200 + 100 // 20)
    began = asyncio.get_running_loop().time()
    await read(begun, 1)
    assert asyncio.get_running_loop().time() - began >= 0.05, "an answer that has begun goes on, at the plan's pace"
    assert Limits(Settings(reads={}, read_rows={})).reading(grant()) is None


async def test_who_is_refused_for_rows_after_waiting_leaves_the_turn_to_others() -> None:
    limits = Limits(Settings(reads={"free": 1}, read_rows={"free": 100}), lambda: 0.0)
    first, second, third = (limits.reading(grant()) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None

    async def ask(reading: Reading) -> None:
        async with reading.turn():
            pass

    async with first.turn() as count:
        waiting = [asyncio.create_task(ask(reading)) for reading in (second, third)]
        await asyncio.sleep(0)
        count(100 * 60)
    for each in waiting:
        with pytest.raises(OverLimit):
            await each


def test_pushing_is_paced_and_refused_where_it_goes_on() -> None:
    now = 0.0
    limits = Limits(Settings(push_bytes={"free": 100}), lambda: now)
    limits.admit_push(grant())
    assert limits.pushed(grant(), 1000) == 0
    assert limits.pushed(grant(), 50) == 0.5
    with pytest.raises(OverLimit):
        limits.admit_push(grant())
    limits.admit_push(grant("other"))
    now = 1.0
    limits.admit_push(grant())
    assert Limits().pushed(grant(), 10**12) == 0
