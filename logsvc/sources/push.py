"""Lines that are posted rather than read from files.

A post is a source like a file: its key names it, and the place in its body behind a line is that line's position. So
a post that is repeated with its key goes on where the bus has it already, whatever cut the first one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from zlib import crc32

from logsvc.bus.protocol import Appender, Bus, Records
from logsvc.errors import BusError, LogsvcError
from logsvc.formats.pushed import Labels, Pushed
from logsvc.model import MAX_CHUNK, AppId, Origin, Stream
from logsvc.sources.redaction import Redact
from logsvc.store.protocol import StoreReader

NODE = "push"
"""Stands where other sources name their node."""

CHECKED = 64
"""Bytes of the body before a position that must be the same when a post is repeated."""

_OTHER = "This Idempotency-Key was used for a post with another body."
_REMEMBERED = 100_000
_READ = 1024 * 1024


class KeyInUse(LogsvcError):
    """Another post with the same key is under way."""


class OtherBody(LogsvcError):
    """The key belongs to a post with another body."""


class PushSource:
    """All posts of this process. Others may take posts as well, and a post may be repeated at any of them.

    So before a post with a key is taken, the app's partition is read: from the watermark up to a fence, and later on
    from there. Below the watermark the store knows. The fence is the key's: where the post is still under way in
    another process, that one can't append any more.
    """

    def __init__(
        self, bus: Bus, store: StoreReader, older: Sequence[Records] = (), redact: Redact | None = None
    ) -> None:
        """`older`: what there was before `bus`, sealed."""
        self._bus, self._store, self._redact = bus, store, redact
        self._older = list(older)
        self._known: OrderedDict[str, Origin] = OrderedDict()
        self._read: dict[tuple[int, int], int] = {}
        """By epoch and partition, the offset up to which posts are in `_known` or in the store."""
        self._reading = asyncio.Lock()
        self._busy: set[str] = set()

    def cross(self, bus: Bus) -> None:
        """Append to a new epoch from here on; the ones before are sealed."""
        self._older.append(self._bus)
        self._bus = bus

    @asynccontextmanager
    async def post(self, app: AppId, key: str | None, retention: int = 0) -> AsyncIterator["Post"]:
        """Begin a post, or go on with the one of the same key. Raises KeyInUse, StoreAway, BusError.

        `retention`: class of the lines, 0 to 7.
        """
        if key is None:
            yield Post(self._bus, app, None, None, retention, self._redact)
            return
        name = f"{app.tenant}/{app.app}/{key}"
        if name in self._busy:
            raise KeyInUse("A post with this Idempotency-Key is under way.")
        self._busy.add(name)
        try:
            bus = self._bus
            appender = bus.named(name)
            yield Post(appender, app, name, await self._find(bus, appender, app, name), retention, self._redact)
        finally:
            self._busy.discard(name)

    async def _find(self, bus: Bus, appender: Appender, app: AppId, name: str) -> Origin | None:
        """How far the post got, here or elsewhere. Raises Sealed where `bus` takes no more: ask the next one."""
        async with self._reading:
            for records in self._older:
                if records is not bus:
                    assert records.sealed is not None, "another epoch follows"
                    partition = app.partition(records.partitions)
                    await self._read_posts(records, partition, records.sealed[partition])
            partition = app.partition(bus.partitions)
            await self._read_posts(bus, partition, await appender.fence(partition))
        stored = (await self._store.origins(NODE, [name])).get(name)
        found = [origin for origin in (stored, self._known.get(name)) if origin is not None]
        return max(found, key=lambda origin: (origin.end, origin.held), default=None)

    async def _read_posts(self, bus: Records, partition: int, end: int) -> None:
        place = bus.epoch, partition
        at = max(self._read.get(place, 0), await bus.watermark(partition))
        mine = f'["{NODE}",'.encode()
        while at < end:
            _, chunks, at = await bus.read(partition, at, _READ)
            for chunk in chunks:
                if chunk.origin.startswith(mine):
                    self._remember(Origin.parse(chunk.origin))
        self._read[place] = at

    def _remember(self, origin: Origin) -> None:
        self._known[origin.file] = origin
        self._known.move_to_end(origin.file)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


class Post:
    """One post on its way to the bus."""

    def __init__(
        self,
        appender: Appender,
        app: AppId,
        name: str | None,
        known: Origin | None,
        retention: int,
        redact: Redact | None = None,
    ) -> None:
        self._appender, self._app, self._retention, self._redact = appender, app, retention, redact
        self.name = name
        self.known = known
        """How far the bus has it. `held` counts the lines of the chunk that it has of the posted line behind `end`."""
        self.start = 0 if known is None else known.end
        """Place in the body from which on lines are new."""
        self._place = self.start
        self._inside = known.held[0][1] if known is not None and known.held else 0
        self._check = None if known is None else known.check
        self._body = bytearray()
        self._seen = 0
        self._refused = False

    def take(self, data: bytes) -> bytes:
        """Of the next piece of the body what is new. Raises OtherBody where it isn't the body of the first post."""
        if self.name is None:
            return data
        before, self._seen = self._seen, self._seen + len(data)
        self._body += data
        if self._seen < self.start:
            self._forget(self._seen)
            return b""
        if self._check is not None:
            if self._crc(self.start) != self._check:
                raise OtherBody(_OTHER)
            self._check = None
        return data[max(0, self.start - before) :]

    def finish(self) -> None:
        """The body has ended. Raises OtherBody where that of the first post was longer."""
        if self._check is not None:
            raise OtherBody(_OTHER)

    async def send(self, lines: Iterable[Pushed], upto: int) -> None:
        """Append lines in their order; they are durable then. `upto`: the place in the body up to which it is read.

        Raises BusError; `known` says then what the bus has. That holds as well where the caller is cancelled: what
        was begun is waited for.
        """
        parcels = list(_parcels(lines, self._place, self._inside))
        if parcels:
            sending = asyncio.ensure_future(self._send(parcels))
            try:
                await asyncio.shield(sending)
            except asyncio.CancelledError:
                await asyncio.gather(sending, return_exceptions=True)
                raise
        self._forget(upto)

    async def _send(self, parcels: Sequence["_Parcel"]) -> None:
        results = await asyncio.gather(*map(self._append, parcels), return_exceptions=True)
        for parcel, result in zip(parcels, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            self.known = self._origin(parcel)
            self._place, self._inside = parcel.end, parcel.inside

    async def _append(self, parcel: "_Parcel") -> None:
        if self._refused:
            raise BusError("what came before was refused")  # it must not be overtaken
        stream = Stream(*self._app, *parcel.labels, "app", NODE, self._retention)
        value = parcel.value if self._redact is None else self._redact(stream, parcel.value)
        try:
            await self._appender.append(stream, value, origin=self._origin(parcel), partial=parcel.partial)
        except BaseException:
            self._refused = True
            raise

    def _origin(self, parcel: "_Parcel") -> Origin | None:
        if self.name is None:
            return None
        held = ((self.name, parcel.inside),) if parcel.inside else ()
        return Origin(NODE, self.name, parcel.start, parcel.end, self._crc(parcel.end), held)

    def _crc(self, end: int) -> int:
        """Of the up to CHECKED bytes of the body before `end`."""
        at = len(self._body) - (self._seen - end)
        return crc32(self._body[max(0, at - CHECKED) : at])

    def _forget(self, upto: int) -> None:
        """Keep only what a check of a place from `upto` on needs."""
        del self._body[: max(0, len(self._body) - (self._seen - upto) - CHECKED)]


class _Parcel(NamedTuple):
    """Lines of one stream that go into one chunk, and the stretch of the body they come from."""

    labels: Labels
    value: bytes
    partial: bool
    start: int
    end: int
    """Place behind the last posted line that is whole in this chunk and those before."""
    inside: int
    """How many lines of the chunk of the posted line behind `end` are in this chunk and those before."""


def _parcels(posted: Iterable[Pushed], place: int, skip: int) -> Iterator[_Parcel]:
    """Join what follows one another and is filed alike, as far as a chunk holds it.

    `place` is where the first line begins, and `skip` how many lines of the chunk are not to be taken of it.
    """
    values: list[bytes] = []
    size, partial, start, labels = 0, False, place, Labels("", "")

    def parcel(inside: int) -> _Parcel:
        nonlocal size, partial, start
        made = _Parcel(labels, b"".join(values), partial, start, place, inside)
        values.clear()
        size, partial, start = 0, False, place
        return made

    for pushed in posted:
        if values and pushed.labels != labels:
            yield parcel(0)
        labels = pushed.labels
        for number, piece in enumerate(_pieces(pushed.value)):
            if number < skip:
                continue
            if values and size + len(piece) > MAX_CHUNK:
                yield parcel(number)
            values.append(piece)
            size += len(piece)
            partial = partial or pushed.partial
        place, skip = pushed.end, 0
    if values:
        yield parcel(0)


def _pieces(value: bytes) -> Iterable[bytes]:
    """A line's value, by lines of the chunk where it is too long for one chunk."""
    return (value,) if len(value) <= MAX_CHUNK else [line + b"\n" for line in value[:-1].split(b"\n")]
