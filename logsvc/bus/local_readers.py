"""Those who follow a `LocalBus`: the router's reader and the store's.

Both are served from memory at the end of the journal and from its files further back; both wait without polling.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from logsvc.bus.journal import Fence
from logsvc.bus.protocol import Fetched
from logsvc.errors import BusError, OutOfRange
from logsvc.model import Chunk

if TYPE_CHECKING:
    from logsvc.bus.local import LocalBus

SHARE: Final = 1024 * 1024
"""Most bytes of values of one partition in one `LiveReader.fetch`."""

READS: Final = 4
"""Most partitions that one live reader reads from the files at once."""


class LocalLive:
    """A `LiveReader`. One `fetch` at a time.

    A partition that is behind is read from the files beside the others and does not hold them up. `fetch` raises
    OutOfRange where a position is no longer in the journal or was never there, and watches that partition no more.
    """

    def __init__(self, bus: "LocalBus") -> None:
        self._bus = bus
        self._positions: dict[int, int] = {}
        # Partitions that may have records behind their position, in the order in which they are served.
        self._ready: dict[int, None] = {}
        self._reading: dict[int, asyncio.Future[Fetched]] = {}
        self._errors: dict[int, BusError] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def watch(self, partition: int, offset: int) -> None:
        """See `LiveReader.watch`. An offset that isn't there is an error of the next `fetch`."""
        self._bus.check(partition)
        self.unwatch(partition)
        self._positions[partition] = offset
        if offset != self._bus.journal.next[partition]:
            self._ready[partition] = None
            self._wake.set()

    def unwatch(self, partition: int) -> None:
        """See `LiveReader.unwatch`."""
        self._positions.pop(partition, None)
        self._ready.pop(partition, None)
        self._reading.pop(partition, None)
        self._errors.pop(partition, None)

    def landed(self, partitions: Collection[int]) -> None:
        """The bus has new records in these."""
        for partition in partitions:
            if partition in self._positions:
                self._ready[partition] = None
                self._wake.set()

    async def fetch(self) -> list[Fetched]:
        """See `LiveReader.fetch`. Raises OutOfRange; BusError where the journal is damaged or the reader is closed."""
        await asyncio.sleep(0)  # a turn for the others, however much there is to read
        while True:
            if self._closed:
                raise BusError("the reader is closed")
            self._wake.clear()
            fetched = self._take_read() + self._take_recent()
            if fetched:
                return fetched
            if self._errors:
                raise self._errors.popitem()[1]
            await self._wake.wait()

    def _take_read(self) -> list[Fetched]:
        """What has arrived from the files."""
        taken = []
        for partition, reading in list(self._reading.items()):
            if not reading.done():
                continue
            del self._reading[partition]
            error = reading.exception()
            if isinstance(error, BusError):
                self._fail(partition, error)
            elif error is not None:
                raise error
            else:
                taken.append(self._advance(reading.result()))
        return taken

    def _take_recent(self) -> list[Fetched]:
        """A share of each ready partition from memory; begins to read from the files what is not there."""
        taken: list[Fetched] = []
        for partition in list(self._ready):
            if partition in self._reading:
                continue
            position = self._positions[partition]
            try:
                fetched = self._bus.journal.recent(partition, position, SHARE)
                if fetched is not None:
                    taken.append(self._advance(fetched))
                elif len(self._reading) < READS:
                    reading = self._reading[partition] = self._bus.read_files(partition, position, SHARE)
                    reading.add_done_callback(self._arrived)
            except OutOfRange as error:
                self._fail(partition, error)
        return taken

    def _advance(self, fetched: Fetched) -> Fetched:
        partition = fetched.partition
        self._positions[partition] = fetched.next
        self._ready.pop(partition, None)
        if fetched.next != self._bus.journal.next[partition]:
            self._ready[partition] = None
        return fetched

    def _arrived(self, reading: asyncio.Future[Fetched]) -> None:
        if not reading.cancelled():
            reading.exception()  # seen: it may be of a partition that nobody watches any more
        self._wake.set()

    def _fail(self, partition: int, error: BusError) -> None:
        self.unwatch(partition)
        self._errors[partition] = error

    async def close(self) -> None:
        self._closed = True
        self._positions.clear()
        self._ready.clear()
        self._reading.clear()
        self._bus.left(self)
        self._wake.set()


class LocalGroup:
    """The `GroupReader`: all partitions, in the order of the journal, which is fair: nobody is read out of turn."""

    def __init__(self, bus: "LocalBus") -> None:
        self._bus = bus
        self._positions = bus.watermarks()
        self._serial = bus.journal.first_unread(self._positions)
        self._wake = asyncio.Event()
        self._closed = False

    def landed(self) -> None:
        """The bus has new records."""
        self._wake.set()

    async def fetch(self, max_bytes: int, timeout: float) -> list[Fetched]:
        """See `GroupReader.fetch`. Raises BusError where the journal is damaged."""
        await asyncio.sleep(0)  # a turn for the others, however much there is to read
        fetched: list[Fetched] = []
        while not fetched:
            if self._closed:
                raise BusError("the reader is closed")
            if self._serial == self._bus.journal.serial and not await self._landed(timeout):
                break
            self._serial = max(self._serial, self._bus.journal.segments[0].first)
            items = await self._bus.read_sequence(self._serial, max_bytes)
            self._serial += len(items)
            fetched = self._by_partition(items)
        return fetched

    async def _landed(self, timeout: float) -> bool:
        """Wait for new records."""
        self._wake.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _by_partition(self, items: Iterable[Chunk | Fence]) -> list[Fetched]:
        """Sort what was read by partition, without what was below the watermark when this reader joined."""
        positions = self._positions
        chunks: dict[int, list[Chunk]] = {}
        for item in items:
            partition = item.partition
            if item.offset < positions[partition]:
                continue
            positions[partition] = item.offset + 1
            into = chunks.get(partition)
            if into is None:
                into = chunks[partition] = []
            if type(item) is Chunk:
                into.append(item)
        return [Fetched(partition, found, positions[partition]) for partition, found in chunks.items()]

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `GroupReader.commit`; a watermark never goes back. Raises OutOfRange beyond the end, BusError."""
        await self._bus.commit(offsets)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._bus.left(self)
            self._wake.set()
