"""Exactly once from a source to the bus: who sent what, and how a source finds out after a crash.

Each chunk carries its origin, so the bus itself is the record of what it has. A checkpoint says from which offset on
to look. Recovery writes a fence to each partition, after which nothing sent before can come any more, reads from
the checkpoint up to the fence, and takes the newest origin of each file.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import orjson

from logsvc.bus.protocol import Bus
from logsvc.errors import BusError, ConfigError, Fenced
from logsvc.model import Cursor, Origin, Stream
from logsvc.sources.checkpoint import Checkpoint, Snapshot
from logsvc.sources.redaction import Redact

CLOSED: Final = -1
"""Origin.check of a file that is done with: the rest of it was given up, and a notice says so."""

_READ: Final = 4 * 1024 * 1024

StoredOrigins = Callable[[str], Awaitable[Mapping[str, Origin]]]

logger = logging.getLogger(__name__)


class Collector:
    """Appends chunks for the files of one node and knows their positions.

    `positions` has the newest acknowledged origin of each file, the most recently moved file last.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        checkpoint: Checkpoint,
        stored_origins: StoredOrigins | None = None,
        redact: Redact | None = None,
        *,
        mine: Callable[[str], bool] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        """`mine`: which of the node's files are collected here, where others collect the rest. `may_send` is asked
        before each append.
        """
        self.node = node
        self.positions: dict[str, Origin] = {}
        self.since = 0
        """Unix ns when somebody collected last before this collector did; 0 where that isn't known."""
        self.chunks = 0
        """Chunks that the bus has taken."""
        self.bytes = 0
        """Bytes of their values."""
        self._bus = bus
        self._redact = redact
        self._checkpoint = checkpoint
        self._stored_origins = stored_origins
        self._mine = mine
        self._may_send = may_send
        self._replaced = False
        self._loaded = False
        self._known: dict[int, int] = {}
        """By partition: an offset below which nothing of this node is missing in `positions`, what is on
        its way excepted."""
        self._on_way: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """By partition and number of the append: what was known when it began, so its offset isn't below that."""
        self._found: dict[str, list[str]] = {}
        self._serial = 0
        self._changed = False

    async def append(self, stream: Stream, value: bytes, origin: Origin, *, partial: bool = False) -> Cursor:
        """Append one chunk. Raises BusError; then the collector must `recover` before anything is appended again."""
        self._check()
        if self._redact is not None:
            value = self._redact(stream, value)
        partition = stream.app_id.partition(self._bus.partitions)
        serial = self._serial = self._serial + 1
        on_way = self._on_way[partition]
        on_way[serial] = self._known[partition]
        try:
            cursor = await self._bus.append(stream, value, origin=origin, partial=partial)
        except Fenced:
            # Whoever began last collects. To take the name back would have that one do the same, and so on for ever;
            # where a lease says whose it is, the lease does.
            self._replaced = self._may_send is None
            raise
        # Not in a `finally`: an append that failed may still be on the bus, and has to be looked for.
        del on_way[serial]
        if cursor.offset >= self._known[partition]:
            self._known[partition] = cursor.offset + 1
        self.moved(origin)
        self.chunks += 1
        self.bytes += len(value)
        return cursor

    def _check(self) -> None:
        if self._may_send is not None and not self._may_send():
            raise BusError("this process may not send any more until it has its lease again")

    def moved(self, origin: Origin) -> None:
        """Remember a position, without a chunk where nothing but parts of a line was read."""
        self.positions.pop(origin.file, None)
        self.positions[origin.file] = origin
        self._changed = True

    def forget(self, files: Iterable[str]) -> None:
        """These files are gone and nothing of them will be read again."""
        for file in files:
            self._changed |= self.positions.pop(file, None) is not None
            self._found.pop(_folder(file), None)

    def by_folder(self) -> dict[str, list[str]]:
        """All files that have a position, by what their names begin with, up to a slash."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for file in self.positions:
            found[_folder(file)].append(file)
        return found

    def files_of(self, prefix: str) -> list[str]:
        """Files with a position at the last recovery whose names begin with `prefix`, up to a slash."""
        return [file for file in self._found.get(prefix, ()) if file in self.positions]

    async def recover(self) -> None:
        """Find out what the bus has. At the start, and after any append that raised; none may be running.

        Raises BusError, StoreError where that can't be told now; calling it again may help. Raises ConfigError where
        another process collects under the same name since.
        """
        self._check()
        if self._replaced:
            raise ConfigError(f"another process collects as node {self.node} now: each needs a name of its own")
        if not self._loaded:
            self.since = await asyncio.to_thread(self._checkpoint.saved_at)
            self._load(await asyncio.to_thread(self._checkpoint.load))
        cursors = self._cursors()
        partitions = range(self._bus.partitions)
        sealed = self._bus.sealed
        fences = [await self._bus.fence(partition) if sealed is None else sealed[partition] for partition in partitions]
        starts = [(await self._bus.bounds(partition)).start for partition in partitions]
        # In the order of their age: which file was read last tells whether one is missing.
        places: dict[str, Origin] = {}
        if self._stored_origins is not None and any(cursors.get(p, -1) < starts[p] for p in partitions):
            # Below the watermark the store has everything, and the bus may not have it any more.
            for p in partitions:
                if p not in cursors:
                    starts[p] = max(starts[p], await self._bus.watermark(p))
            places.update(await self._stored_origins(self.node))
        for origin in self.positions.values():
            _take_newer(places, origin)
        for partition in partitions:
            start = max(starts[partition], cursors.get(partition, 0))
            for origin in await self._origins(partition, start, fences[partition]):
                _take_newer(places, origin)
        self.positions = places if self._mine is None else {f: o for f, o in places.items() if self._mine(f)}
        self._found = self.by_folder()
        self._known = {partition: fence + 1 for partition, fence in enumerate(fences)}
        self._on_way.clear()
        self._changed = True

    async def _origins(self, partition: int, offset: int, fence: int) -> list[Origin]:
        """Origins of this node in `offset <= o < fence`, in order."""
        mine = orjson.dumps([self.node])[:-1] + b","
        origins: list[Origin] = []
        while offset < fence:
            fetched = await self._bus.read(partition, offset, _READ)
            origins += [
                Origin.parse(chunk.origin)
                for chunk in fetched.chunks
                if chunk.offset < fence and chunk.origin.startswith(mine)
            ]
            if fetched.next <= offset:
                raise BusError(f"partition {partition} can't be read beyond offset {offset}")
            offset = fetched.next
        return origins

    def _load(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self.positions = dict(snapshot.positions)
            if snapshot.epoch == self._bus.epoch:
                self._known = dict(snapshot.cursors)
            elif snapshot.epoch < self._bus.epoch:
                # Saved at the end of that epoch: only this one may have more.
                self._known = dict.fromkeys(range(self._bus.partitions), 0)
        self._loaded = True

    def _cursors(self) -> dict[int, int]:
        return {p: min(self._on_way[p].values(), default=known) for p, known in self._known.items()}

    async def advance(self) -> None:
        """Move the cursors of partitions that others write to, so that a recovery needn't read all of it."""
        for partition in range(self._bus.partitions):
            end = (await self._bus.bounds(partition)).end
            # An append that is on its way remembers what was known before, and one that begins from here on
            # comes to lie behind `end`.
            self._known[partition] = max(self._known[partition], end)
        self._changed = True

    @property
    def saved(self) -> bool:
        """Whether the checkpoint on disk says what is known here."""
        return not self._changed

    async def save(self) -> None:
        """Write the checkpoint where it has changed. A disk that refuses is named in the log, and no more."""
        if not self._changed:
            return
        self._changed = False
        content = self._checkpoint.encode(Snapshot(self._bus.epoch, self._cursors(), self.positions))
        try:
            await asyncio.to_thread(self._checkpoint.save, content)
        except OSError as error:
            self._changed = True
            logger.warning("the checkpoint can't be written: %s", error)


def _folder(file: str) -> str:
    return file[: file.rfind("/") + 1]


def _take_newer(places: dict[str, Origin], origin: Origin) -> None:
    known = places.get(origin.file)
    # Of two with the same end the later one holds less: a line that was cut ended there, and a part of it was sent.
    if known is None or origin.end >= known.end or origin.check == CLOSED:
        places.pop(origin.file, None)
        places[origin.file] = origin
