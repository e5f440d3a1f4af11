"""What is tried again, and for how long; what is said of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from logsvc import waiting
from logsvc.errors import BusAway, BusError, ConfigError, LogsvcError, NewerFormat, StoreAway, StoreError, WrongTopic
from logsvc.waiting import TROUBLE, keep_up, opened, persist, waits
from tests.support import until


class Work:
    """Raises what it is given, one thing a call, and then gives 7."""

    def __init__(self, *errors: Exception) -> None:
        self._errors: Iterator[Exception] = iter(errors)

    async def __call__(self) -> int:
        for error in self._errors:
            raise error
        return 7

    async def for_ever(self) -> None:
        await self()
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(waiting, "_SETTLED", 0.05)


async def test_what_is_away_is_waited_for_and_said_once_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "logsvc.waiting")
    away = [BusAway("refused"), BusAway("refused"), StoreAway("no answer"), StoreAway("no answer")]
    assert await persist(Work(*away), "the test") == 7
    said = ["the test waits: refused", "the test waits: no answer", "the test goes on"]
    assert [record.message for record in caplog.records] == said
    assert waits() == []


async def test_what_worked_at_once_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "logsvc.waiting")
    assert await persist(Work(), "the test") == 7
    assert caplog.records == []


@pytest.mark.parametrize("error", [BusError("wrong"), StoreError("wrong"), ConfigError("wrong"), NewerFormat("wrong")])
async def test_what_is_wrong_is_raised(error: LogsvcError) -> None:
    with pytest.raises(type(error), match="wrong"):
        await persist(Work(BusAway("refused"), error), "the test")
    assert waits() == []


async def test_a_process_that_has_started_waits_for_what_is_wrong_as_well() -> None:
    assert await persist(Work(BusError("wrong"), StoreError("wrong")), "the test", TROUBLE) == 7
    for final in (NewerFormat("newer"), WrongTopic("another")):
        with pytest.raises(type(final)):
            await persist(Work(final), "the test", TROUBLE)


async def test_what_is_waited_for_is_told_until_it_is_there() -> None:
    there = asyncio.Event()

    async def work() -> None:
        if not there.is_set():
            raise BusAway("refused")

    waiting = asyncio.create_task(persist(work, "the test"))
    await until(lambda: waits() == ["the test waits: refused"])
    there.set()
    await waiting
    assert waits() == []


async def test_what_waits_can_be_stopped() -> None:
    async def work() -> None:
        raise BusAway("refused")

    waiting = asyncio.create_task(persist(work, "the test"))
    await until(waits)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waits() == []


async def test_what_lasts_is_begun_again_and_counts_as_going_on_when_it_has_lasted_a_while() -> None:
    both = ExceptionGroup("", [BusError("wrong"), ExceptionGroup("", [StoreAway("away")])])
    work = Work(BusError("wrong"), both, StoreAway("away"))
    lasting = asyncio.create_task(keep_up(work.for_ever, "the test"))
    await until(waits)
    await until(lambda: not waits())
    assert not lasting.done()
    lasting.cancel()
    await asyncio.wait([lasting])


@pytest.mark.parametrize(
    "error",
    [
        NewerFormat("newer"),
        WrongTopic("another"),
        ValueError("a bug"),
        ExceptionGroup("", [BusError("away"), ValueError("a bug")]),
    ],
)
async def test_what_lasts_ends_with_what_waiting_does_not_mend(error: Exception) -> None:
    with pytest.raises(type(error)):
        await keep_up(Work(BusError("wrong"), error).for_ever, "the test")
    assert waits() == []


async def test_what_is_opened_is_closed() -> None:
    events: list[str] = []
    work = Work(BusAway("refused"))

    @asynccontextmanager
    async def opening() -> AsyncIterator[int]:
        yield await work()
        events.append("closed")

    async with opened(opening, "the test") as given:
        assert given == 7
        assert events == []
    assert events == ["closed"]


async def test_work_that_fails_while_it_is_ended_is_not_tried_again() -> None:
    tries = 0

    async def fail_at_the_end() -> None:
        nonlocal tries
        tries += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise BusAway("gone")

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail_at_the_end())

    task = asyncio.create_task(keep_up(work, "the test"))
    await until(lambda: tries == 1)
    task.cancel()
    await until(task.done)
    assert (task.cancelled(), tries, waits()) == (True, 1, [])
