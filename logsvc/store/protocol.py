"""What a store is. The embedded engine and a ClickHouse server both pass `tests/contract/store.py`.

The store holds lines below the watermark of each partition (see bus/protocol.py). Readers say up to which offset
they read (`below`), and never ask beyond the watermark, so a batch that is half inserted is never seen.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from logsvc.model import AppId, Chunk, Cursor, Filter, Origin
from logsvc.purges import Purge


class Page(NamedTuple):
    """Lines in timeline order, as chunks that hold some or all of the lines of the chunk at that place."""

    chunks: list[Chunk]
    done: bool
    """No more lines in the range that was asked for."""


class Bucket(NamedTuple):
    """How many lines of some kind were written in [start, start + step)."""

    start: int
    """Unix ns, a multiple of the step."""
    names: tuple[str, ...]
    """Of what they are counted by: `("web", "stdout")` by process and stream."""
    lines: int


VOLUME_BY: Final = ("process", "stream")
"""What lines are counted by where nobody says; any of process, dyno, source and stream."""


class AppSummary(NamedTuple):
    """An app as the store knows it."""

    app: str
    processes: list[str]
    last: int
    """When the bus took its newest line, Unix ms."""


class ReadLimits(NamedTuple):
    """What one statement may take; None where nobody says."""

    seconds: float | None = None
    bytes: int | None = None
    turn: Callable[[], AbstractAsyncContextManager[Callable[[int], None]]] | None = None
    """Held for as long as a statement runs, and told how many rows it has read. What entering it raises, the read
    raises."""


class StoreReader(Protocol):
    """Reads of one app's rows. Raises StoreAway, StoreError."""

    async def after(self, app: AppId, after: Cursor, below: int, wanted: Filter, lines: int) -> Page:
        """The first `lines` lines behind `after` and below offset `below` of after's partition that pass."""

    async def before(self, app: AppId, before: Cursor, wanted: Filter, lines: int, floor: int | None = None) -> Page:
        """The last `lines` lines in front of the line `before` (excluded) that pass, oldest first.

        Of older epochs, too; with a `floor` only from that offset of before's own epoch on.
        """

    async def first(self, app: AppId, epoch: int) -> Cursor | None:
        """The oldest line kept of an app."""

    async def count(self, app: AppId, after: Cursor, below: int, wanted: Filter) -> int:
        """How many lines behind `after` and below offset `below` of after's partition pass."""

    async def volume(
        self, app: AppId, below: Cursor, wanted: Filter, step: int, by: Sequence[str] = VOLUME_BY
    ) -> list[Bucket]:
        """Lines by bucket of `step` ns of line time, and by what `by` names, in front of `below`."""

    async def apps(self, tenant: str) -> list[AppSummary]:
        """A tenant's apps by name."""

    async def exists(self, app: AppId) -> bool: ...

    def limited(self, limits: ReadLimits) -> "StoreReader":
        """The same reads, each of which raises TooCostly where it would take more."""

    async def origins(self, node: str, files: Sequence[str] = ()) -> Mapping[str, Origin]:
        """The newest origin stored of each file of a node (of `files` only, where given).

        In the order in which the bus took them: the file that something came of last is last.
        """

    async def watermarks(self, epoch: int) -> Mapping[int, int]:
        """The watermarks that writers recorded, by partition."""


class StoreWriter(Protocol):
    """Inserts. A batch inserted twice, with other boundaries or by two writers, is one batch."""

    async def insert(self, chunks: Sequence[Chunk]) -> None:
        """Insert whole chunks. They are on disk when this returns."""

    async def record(self, epoch: int, watermarks: Mapping[int, int]) -> None:
        """Record watermarks, after the bus has committed them."""

    async def purge(self, purge: Purge) -> bool:
        """Delete what a purge covers, from the disks too; whether there was anything. An insert under way escapes it.

        Where each file and post was read up to stays: it holds no lines, and keeps them from being collected again.
        """


class Store(StoreReader, StoreWriter, Protocol):
    """Both, and a life."""

    async def migrate(self) -> None:
        """Bring the schema up to date; safe to call twice and at once."""

    async def retain(self, now: int) -> None:
        """Drop the parts whose retention has passed at `now` (Unix seconds)."""

    async def close(self) -> None: ...
