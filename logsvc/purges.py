"""What was removed for good: of an app, everything in front of a place. No I/O.

A purge is a place in the app's timeline. What is behind it was written later, and stays. Whoever reads begins there,
and whoever stores leaves out what is in front of it; so what is still on the bus comes back nowhere.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from logsvc.model import AppId, Chunk, Cursor


class Purge(NamedTuple):
    """One app's lines in front of the place `before` are gone."""

    app: AppId
    before: Cursor
    """The place before a chunk (its line is -1), or behind all there was."""
    at: int
    """When, Unix ms."""

    def covers(self, chunk: Chunk) -> bool:
        """Whether a chunk of the app is in front of it."""
        return (chunk.epoch, chunk.offset) < (self.before.epoch, self.before.offset)


class Purges:
    """The newest purge of each app, as far as this process has heard."""

    def __init__(self) -> None:
        self._all: dict[AppId, Purge] = {}
        self._followers: list[Callable[[Purge], None]] = []

    def add(self, purge: Purge) -> bool:
        """Whether it says more than what is known."""
        known = self._all.get(purge.app)
        if known is not None and known.before >= purge.before:
            return False
        self._all[purge.app] = purge
        for follower in self._followers:
            follower(purge)
        return True

    def place(self, app: AppId) -> Cursor | None:
        """The place that an app's log begins at; None where nothing was removed."""
        purge = self._all.get(app)
        return None if purge is None else purge.before

    def keep(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Those that were not removed: the same object where that is all of them."""
        if not self._all:
            return chunks
        purges = [(self._all.get(chunk.stream.app_id), chunk) for chunk in chunks]
        return [chunk for purge, chunk in purges if purge is None or not purge.covers(chunk)]

    def since(self, at: int) -> list[Purge]:
        """Those of `at` (Unix ms) and later."""
        return [purge for purge in self._all.values() if purge.at >= at]

    def follow(self, follower: Callable[[Purge], None]) -> None:
        """Have `follower` called with each purge that is added from now on."""
        self._followers.append(follower)
