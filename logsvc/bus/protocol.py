"""What a bus is. `LocalBus` (a journal in a folder) and `KafkaBus` both pass `tests/contract/bus.py`.

A partition is a sequence of records numbered by offset from 0, each durable before `append` returns. Offsets
may have holes (fences, records that logsvc did not write), so every read says where the next one starts.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from logsvc.model import Chunk, Cursor, Origin, Stream


class Fetched(NamedTuple):
    """Records of one partition in offset order; `chunks` may be empty where only fences were passed."""

    partition: int
    chunks: list[Chunk]
    next: int
    """Offset at which the next read goes on."""


class Bounds(NamedTuple):
    """A partition holds the offsets `start <= o < end`."""

    start: int
    end: int


class LiveReader(Protocol):
    """The router's reader: any set of partitions, each from a place of its own, new records as they come."""

    def watch(self, partition: int, offset: int) -> None:
        """Read `partition` from `offset` on. Watching one that is watched moves it."""

    def unwatch(self, partition: int) -> None:
        """Stop reading `partition`; what is in flight of it is not returned any more."""

    async def fetch(self) -> list[Fetched]:
        """Wait until a watched partition has records, then return a bounded, fair share of each (1 MiB a partition)."""

    async def close(self) -> None: ...


class GroupReader(Protocol):
    """A member of a consumer group (the store's): partitions are shared with other members, positions committed."""

    async def fetch(self, max_bytes: int, timeout: float) -> list[Fetched]:
        """Up to about `max_bytes` of values of the partitions held; empty after `timeout` seconds of silence."""

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Everything before `offsets[partition]` is done: the new watermark. It survives a crash."""

    async def close(self) -> None: ...


class Records(Protocol):
    """What is on one epoch of the bus, for those who read places of it again."""

    epoch: int
    partitions: int

    @property
    def sealed(self) -> Mapping[int, int] | None:
        """Where each partition ends, once the epoch takes no more."""

    async def bounds(self, partition: int) -> Bounds: ...

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        """Catch-up read of about `max_bytes`, at least one record where there is one; never waits for new ones.

        Raises OutOfRange below the start or beyond the end. Bounded and fair between callers.
        """

    async def watermark(self, partition: int) -> int:
        """The committed offset of the store's group; the partition's start where nothing was committed yet."""


class Appender(Protocol):
    """Whoever appends, under a name of its own."""

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        """Append one chunk to its app's partition; return its place (line -1) once it is durable.

        Calls made together are written together. Raises BusError; what was appended is then unknown, and the caller
        recovers as after a crash.
        """

    async def fence(self, partition: int) -> int:
        """Write a record that readers skip; return its offset.

        What was sent to this partition before under the same name, in whatever process, is below it or never comes.
        """


class Bus(Records, Appender, Protocol):
    """One epoch of the bus."""

    def named(self, name: str) -> Appender:
        """For who takes turns under `name` with other processes; in this one it is used by one at a time."""

    def live(self) -> LiveReader: ...

    def group(self) -> GroupReader:
        """Join the store's consumer group."""

    async def close(self) -> None: ...
