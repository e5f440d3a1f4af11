"""How a drain fails, and when to tell its app of that. Pure."""

from dataclasses import dataclass
from typing import Final

from logsvc.drains.model import Told
from logsvc.drains.policy import Answer

PATIENCE: Final = 3
"""Failed tries of a frame before an app is told: a receiver that is restarted is no news."""


@dataclass(slots=True)
class _Failure:
    """A frame that isn't taken."""

    since: float
    tries: int = 0


class Trouble:
    """A drain's troubles, one after the other. Says what to tell the app, at most once in `every` seconds."""

    def __init__(self, name: str, every: float, told: Told | None = None) -> None:
        """`name` is what the app's developers know the drain by, without secrets; `told` what they heard last."""
        self._name, self._every = name, every
        self._failing: dict[str, _Failure] = {}
        """By the frame's id."""
        self._told = -every if told is None else float(told.at)
        self._refused = 0
        """Lines that were refused since the app was told last."""
        self._said = told is not None and told.failing
        """Whether the app believes that it fails."""

    @property
    def told(self) -> Told:
        """What the app was told last, once it was told anything."""
        return Told(int(self._told), self._said)

    @property
    def failing(self) -> bool:
        """Whether there is a frame that was tried, and is to be tried again."""
        return bool(self._failing)

    def failed(self, frame: str, answer: Answer, now: float) -> str | None:
        """A try of a frame failed, at a time in seconds; what to tell the app."""
        failure = self._failing.setdefault(frame, _Failure(now))
        failure.tries += 1
        if failure.tries < PATIENCE or now - self._told < self._every:
            return None
        self._told, self._said = now, True
        return (
            f"Drain {self._name}: the receiver {answer.words}, for {duration(now - failure.since)} now. "
            "Lines wait, and are sent once it takes them"
        )

    def refused(self, frame: str, answer: Answer, lines: int, now: float) -> str | None:
        """It refused the lines of a frame for good, or so many of them."""
        self._failing.pop(frame, None)
        self._refused += lines
        if now - self._told < self._every:
            return None
        self._told, self._said = now, True
        told, self._refused = self._refused, 0
        return f"Drain {self._name}: the receiver {answer.words}. {told} lines were dropped"

    def taken(self, frame: str) -> str | None:
        """It took a frame."""
        self._failing.pop(frame, None)
        if self._failing or not self._said:
            return None
        self._said = False
        dropped, self._refused = self._refused, 0
        more = f". {dropped} more lines were dropped before" if dropped else ""
        return f"Drain {self._name}: the receiver takes lines again{more}"


def duration(seconds: float) -> str:
    """In words: `40 s`, `12 min`, `3 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
