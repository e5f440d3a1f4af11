"""Where drains are kept. On Kafka (`drains/kafka.py`) and in a file (`drains/local.py`), under one contract suite.

Two things are kept. The *registry* says which drains there are; few write to it, everybody follows it. *Positions* say
how far each drain is; only the process that delivers it writes them, often. Drains are shared between processes by
shares: a drain belongs to share `AppId.partition(shares)`, and a share is held by one process at a time.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from logsvc.drains.model import Drain, DrainStatus, Position, Trial
from logsvc.errors import BusError

Change = Callable[[Mapping[str, Drain]], Drain | None]
"""Is given all drains by id, as they are at this moment and nobody can change meanwhile, and says what one of them is
from now on: with an id that is new, a new one. None changes nothing. What it raises, `change` raises."""


TryOut = Callable[[Drain], Awaitable[Trial]]
"""Sends one marked line to a drain, whatever its state, and says what came back. Raises nothing."""


class ShareLost(BusError):
    """Another process delivers the drains of this share now: stop at once, save nothing more."""


class Registry(Protocol):
    """Which drains there are."""

    @property
    def drains(self) -> Mapping[str, Drain]:
        """All of them by id, as far as this process has heard. Each change makes another mapping."""

    async def changed(self, seen: Mapping[str, Drain]) -> Mapping[str, Drain]:
        """Wait until `drains` is another one than `seen`; returns it."""

    async def refreshed(self) -> Mapping[str, Drain]:
        """`drains` with everything that was changed anywhere before this call. Raises BusError, NewerFormat."""

    async def change(self, change: Change) -> Drain | None:
        """Make one change; it is durable, and in `drains`, on return. Raises BusError, then it may be there or not."""

    async def remove(self, drain: str) -> bool:
        """Forget a drain; whether there was one. Durable on return. Raises BusError, then it may be there or not."""

    async def statuses(self, drains: list[Drain]) -> Mapping[str, DrainStatus]:
        """What their deliveries said last, by id; none of those that nobody has delivered yet. Raises BusError."""


class Share(Protocol):
    """The drains of one share, for the process that delivers them. Nobody else can save while it is held."""

    @property
    def number(self) -> int:
        """Which one it is, from 0 on."""

    @property
    def kept(self) -> frozenset[str]:
        """Ids of which there was a position or a status when it was taken, those of removed drains among them."""

    def position(self, drain: str) -> Position | None:
        """As it was saved last, by whomever; None for a drain that was never delivered: begin at `Drain.start`."""

    async def save(self, drain: str, position: Position) -> None:
        """Durable on return. Calls made together are written together, those for one drain in their order.

        Raises ShareLost where another process holds the share; another BusError where it is unknown whether it was
        written: take the share again, as after a crash.
        """

    async def report(self, drain: str, status: DrainStatus) -> None:
        """Say how the drain does. Raises as `save` does."""

    async def forget(self, drain: str) -> None:
        """Drop position and status of a drain that is no more. Raises as `save` does."""


class Positions(Protocol):
    """How far drains are, and who delivers them."""

    @property
    def shares(self) -> int:
        """How many there are; always the same number."""

    @property
    def assigned(self) -> frozenset[int]:
        """Shares that this process is to hold now. One that isn't any more has gone to somebody else: let it go."""

    async def reassigned(self, seen: frozenset[int]) -> frozenset[int]:
        """Wait until `assigned` is another one than `seen`; returns it."""

    def hold(self, share: int) -> AbstractAsyncContextManager[Share]:
        """Hold a share for the block. Whoever held it before can save no more. Raises BusError."""
