"""Questions that many ask at the same time: one answer for all who wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Together(Generic[K, T]):
    """Asks once for all who come while an earlier question is under way. Belongs to one event loop.

    Whoever asks gets an answer that was begun after that, so it is as new as one of its own would be. Errors are
    answers too: those who wait don't each have to run into the same one.
    """

    def __init__(self, ask: Callable[[K], Awaitable[T]]) -> None:
        self._ask = ask
        self._lines: WeakValueDictionary[K, _Line[T]] = WeakValueDictionary()

    async def __call__(self, key: K) -> T:
        """The answer to the question about `key`. Raises what it raises."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        came = line.begun
        async with line.turn:
            if line.answered <= came:
                line.begun += 1
                number, answer = line.begun, asyncio.get_running_loop().create_future()
                try:
                    answer.set_result(await self._ask(key))
                except Exception as error:  # noqa: BLE001 - raised below, and to all who wait
                    answer.set_exception(error)
                line.answered, line.answer = number, answer
            assert line.answer is not None
            return line.answer.result()


class _Line(Generic[T]):
    """Those who ask about one thing."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.begun = self.answered = 0
        """Numbers of the question that was begun last, and of the one that was answered last."""
        self.answer: asyncio.Future[T] | None = None
