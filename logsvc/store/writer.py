"""From the bus into the store: gather, insert, commit, record. Never drops a chunk (poison.py: one may be set aside).

A batch is committed only after it is on disk, so a crash in between repeats it, and the store collapses what it has
already. While batches are inserted the next one is gathered, and they are committed in their order.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from logsvc import metrics
from logsvc.bus.protocol import GroupReader
from logsvc.errors import BusError, StoreError
from logsvc.model import Chunk
from logsvc.purges import Purges
from logsvc.store.poison import Inserter, SetAside
from logsvc.store.protocol import StoreWriter

logger = logging.getLogger(__name__)

BATCH_BYTES: Final = 16 * 1024 * 1024
"""A batch is inserted at this size at the latest; so when behind, all are about this big."""

BATCH_SECONDS: Final = 0.7
"""A batch is inserted at this age at the latest: readers take newer lines from the bus, so there's no hurry."""


@dataclass(slots=True)
class StoreState:
    """How the loop fares, for health checks and metrics."""

    error: str | None = None
    """Why the last try failed, in one sentence; None while all is well."""
    failures: int = 0
    """Tries in a row that failed."""
    chunks: int = 0
    """Chunks inserted since the start."""
    size: int = 0
    """Bytes of their values."""
    oldest: int | None = None
    """When the bus took the oldest chunk that is fetched and not yet committed, Unix ms."""

    said: str | None = None
    """The error that was logged and isn't over yet."""

    def note(self, error: Exception | None) -> None:
        """How a try went."""
        self.failures = 0 if error is None else self.failures + 1
        self.error = None if error is None else str(error)
        if self.error is not None and self.error != self.said:
            self.said = self.error
            logger.warning("%s", self.error)

    def stored(self, batch: "_Batch") -> None:
        """A whole batch is in the store."""
        self.chunks += len(batch.chunks)
        self.size += batch.size
        if self.said is not None:
            self.said = None
            logger.info("the store takes lines again")

    def lag(self, now: float) -> float:
        """Seconds by which the store is behind the bus at `now` (Unix seconds), as far as the loop has seen."""
        return 0.0 if self.oldest is None else max(0.0, now - self.oldest / 1000)


@dataclass(slots=True)
class _Batch:
    chunks: list[Chunk] = field(default_factory=list)
    size: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    """The next offset by partition."""

    @property
    def oldest(self) -> int | None:
        return min((chunk.appended for chunk in self.chunks), default=None)


class StoreLoop:
    """Runs until `stop`. It may be cancelled at any time: what was not committed comes again."""

    def __init__(
        self,
        reader: GroupReader,
        store: StoreWriter,
        epoch: int,
        *,
        batch_bytes: int = BATCH_BYTES,
        batch_seconds: float = BATCH_SECONDS,
        inserts: int = 1,
        set_aside: SetAside | None = None,
        purges: Purges | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`inserts` batches are inserted at once, and one more is gathered.

        `set_aside` keeps what the store refuses for good (see poison.py); without it that is tried for ever. What
        `purges` has removed is not stored.
        """
        self.state = StoreState()
        self._inserter = Inserter(store, pause=pause, note=self.state.note, set_aside=set_aside, purges=purges)
        self._reader = reader
        self._store = store
        self._epoch = epoch
        self._batch_bytes = batch_bytes
        self._batch_seconds = batch_seconds
        self._room = asyncio.Semaphore(inserts)
        self._held: deque[_Batch] = deque()
        """Batches that are not committed, oldest first: as many as there is room for."""
        self._inserting: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._uncommitted: dict[int, int] = {}
        self._unrecorded: dict[int, int] = {}
        self._gathered = _Batch()
        self._inserts = inserts
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Store what the reader gives, until `stop`. Raises a group with what `reader.fetch` raised: BusError."""
        async with asyncio.TaskGroup() as tasks:
            committing = tasks.create_task(self._commit_in_order())
            gathering = tasks.create_task(self._gather_all(tasks))
            await self._stopping.wait()
            gathering.cancel()
            await asyncio.wait([gathering])
            await self._hand_on(tasks)
            for _ in range(self._inserts):  # free again once everything is inserted, and was to be committed
                await self._room.acquire()
            committing.cancel()
            if self._uncommitted or self._unrecorded:
                await self._commit()

    def stop(self) -> None:
        """Let `run` return once what was fetched is inserted and committed."""
        self._stopping.set()

    async def _gather_all(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._gather(self._gathered)
            await self._hand_on(tasks)

    async def _hand_on(self, tasks: asyncio.TaskGroup) -> None:
        """Have what is gathered inserted, once there is room."""
        await self._room.acquire()
        batch, self._gathered = self._gathered, _Batch()
        self._held.append(batch)
        self.state.oldest = self._oldest()
        self._inserting.put_nowait(tasks.create_task(self._insert(batch)))

    async def _gather(self, batch: _Batch) -> None:
        """Fetch until the batch is big or old enough, or nothing came for a while."""
        end = time.monotonic() + self._batch_seconds
        while batch.size < self._batch_bytes and (left := end - time.monotonic()) > 0:
            for fetched in await self._reader.fetch(self._batch_bytes - batch.size, left):
                batch.chunks += fetched.chunks
                batch.size += sum(len(chunk.value) for chunk in fetched.chunks)
                batch.offsets[fetched.partition] = fetched.next

    async def _insert(self, batch: _Batch) -> None:
        if batch.chunks:
            await self._inserter.insert(batch.chunks)
            self.state.stored(batch)
            metrics.store_chunks.inc(len(batch.chunks))
            metrics.store_bytes.inc(batch.size)

    async def _commit_in_order(self) -> None:
        """Commit each batch once it and all before it are stored: a commit says that of everything before it."""
        while True:
            await (await self._inserting.get())
            self._uncommitted |= self._held[0].offsets
            await self._commit()
            self._held.popleft()
            self.state.oldest = self._oldest()
            self._room.release()

    def _oldest(self) -> int | None:
        return min((batch.oldest for batch in self._held if batch.oldest is not None), default=None)

    async def _commit(self) -> None:
        """Commit and record; what fails is tried again after the next batch, which says the same and more."""
        try:
            if self._uncommitted:
                await self._reader.commit(self._uncommitted)
                self._unrecorded |= self._uncommitted
                self._uncommitted = {}
            if self._unrecorded:
                await self._store.record(self._epoch, self._unrecorded)
                self._unrecorded = {}
        except (BusError, StoreError) as error:
            metrics.store_errors.labels("commit").inc()
            self.state.note(error)
        else:
            self.state.note(None)
