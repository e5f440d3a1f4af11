"""One answer for all who wait for it, and none that is older than the question."""

import asyncio

import pytest

from logsvc.together import Together


class Oracle:
    """Answers with the number of the question, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, about: str) -> str:
        self.asked += 1
        number = self.asked
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return f"{about} {number}"


async def begun(*tasks: "asyncio.Task[str]") -> None:
    for _ in tasks:
        await asyncio.sleep(0)


async def test_those_who_come_meanwhile_share_the_answer_to_the_next_question() -> None:
    """What was asked before they came may have been answered before something that they know of."""
    oracle = Oracle()
    together = Together(oracle)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(together("a"))
        await begun(first)
        others = [group.create_task(together("a")) for _ in range(100)]
        await begun(first, *others)
        oracle.let.set()
    assert first.result() == "a 1"
    assert {other.result() for other in others} == {"a 2"}
    assert await together("a") == "a 3"


async def test_each_question_has_answers_of_its_own() -> None:
    oracle = Oracle()
    oracle.let.set()
    together = Together(oracle)
    assert [*await asyncio.gather(together("a"), together("b"))] == ["a 1", "b 2"]


async def test_an_error_is_an_answer() -> None:
    oracle = Oracle()
    together = Together(oracle)
    oracle.error = OSError("away")
    tasks = [asyncio.create_task(together("a")) for _ in range(100)]
    await begun(*tasks)
    oracle.let.set()
    assert {str(error) for error in await asyncio.gather(*tasks, return_exceptions=True)} == {"away"}
    assert oracle.asked == 2
    oracle.error = None
    assert await together("a") == "a 3"


@pytest.mark.parametrize("gone", [0, 1])
async def test_who_gives_up_takes_nobody_along(gone: int) -> None:
    """Neither who asks at this moment, nor who would be the next."""
    oracle = Oracle()
    together = Together(oracle)
    tasks = [asyncio.create_task(together("a")) for _ in range(4)]
    await begun(*tasks)
    tasks[gone].cancel()
    await begun(*tasks)
    oracle.let.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(gone), asyncio.CancelledError)
    assert {*answers} <= {"a 1", "a 2"}
