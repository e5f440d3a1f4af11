"""How a drain fails, and when to tell its app of that. Pure."""

from typing import Final

from logsvc.drains.policy import Answer

PATIENCE: Final = 3
"""Failed tries in a row before an app is told: a receiver that is restarted is no news."""


class Trouble:
    """A drain's troubles, one after the other. Says what to tell the app, at most once in `every` seconds."""

    def __init__(self, name: str, every: float) -> None:
        """`name` is what the app's developers know the drain by, without secrets."""
        self._name, self._every = name, every
        self._failures = 0
        self._since = 0.0
        self._told = -every
        self._refused = 0
        """Lines that were refused since the app was told last."""
        self._said = False
        """Whether the app believes that it fails."""

    def failed(self, answer: Answer, now: float) -> str | None:
        """A try failed, at a time in seconds; what to tell the app."""
        if not self._failures:
            self._since = now
        self._failures += 1
        if self._failures < PATIENCE or now - self._told < self._every:
            return None
        self._told, self._said = now, True
        return (
            f"Drain {self._name}: the receiver {answer.words}, for {duration(now - self._since)} now. "
            "Lines wait, and are sent once it takes them"
        )

    def refused(self, answer: Answer, lines: int, now: float) -> str | None:
        """It refused lines for good."""
        self._failures = 0
        self._refused += lines
        if now - self._told < self._every:
            return None
        self._told, self._said = now, True
        told, self._refused = self._refused, 0
        return f"Drain {self._name}: the receiver {answer.words}. {told} lines were dropped"

    def taken(self) -> str | None:
        """It took a frame."""
        self._failures = 0
        if not self._said:
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
