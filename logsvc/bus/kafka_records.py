"""Chunks as Kafka records, and back. Pure.

A record's key is `Stream.key()`, its value the chunk's. Headers: `v`, the format version in decimal; `o`, the origin,
where there is one; `p`, empty, where a line goes on in the next chunk. A fence has no key, an empty value, and the
headers `v` and `f`.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from logsvc.errors import BadKey, NewerFormat
from logsvc.model import FORMAT_VERSION, MAX_CHUNK, Chunk, Stream

MAX_KEY: Final = 32 * 1024
"""Most bytes in a key."""

MAX_ORIGIN: Final = 256 * 1024
"""Most bytes in the header `o`."""

MAX_RECORD: Final = MAX_CHUNK + MAX_KEY + MAX_ORIGIN + 1024
"""Most bytes in a record. What a producer batches and a topic takes follows from it."""

TURN: Final = 4096
"""Most records decoded at once: many small ones must not hold up the event loop for long."""

_OLDEST: Final = max(1, FORMAT_VERSION - 1)
_VERSION: Final = str(FORMAT_VERSION).encode()
_READABLE: Final = frozenset(str(version).encode() for version in range(_OLDEST, FORMAT_VERSION + 1))

FENCE_HEADERS: Final = [("v", _VERSION), ("f", b"")]

Headers = Sequence[tuple[str, bytes | None]]


class Foreign(Exception):
    """A record that logsvc did not write. Never leaves the bus."""


class KafkaRecord(Protocol):
    """What aiokafka makes of a record, be it fetched by a consumer or directly."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Decoded(NamedTuple):
    """Records of one partition, decoded."""

    chunks: list[Chunk]
    next: int
    """The offset behind them; at a record of another format version it is that record's."""
    foreign: int
    """How many were skipped because logsvc did not write them."""
    refused: NewerFormat | None = None
    """Why `next` can't be read."""
    ended: bool = False
    """Whether there were no more."""


def headers(origin: bytes, *, partial: bool) -> list[tuple[str, bytes]]:
    """The headers of a chunk."""
    made = [("v", _VERSION)]
    if origin:
        made.append(("o", origin))
    if partial:
        made.append(("p", b""))
    return made


def decode(epoch: int, partition: int, records: Iterable[KafkaRecord], offset: int, max_bytes: int) -> Decoded:
    """Decode records up to about `max_bytes` of values, at least one, none below `offset`."""
    chunks: list[Chunk] = []
    foreign = count = size = 0
    for record in records:
        if record.offset < offset:
            continue
        try:
            chunk = chunk_of(epoch, partition, record)
        except Foreign:
            foreign += 1
        except NewerFormat as error:
            return Decoded(chunks, offset, foreign, error)
        else:
            if chunk is not None:
                chunks.append(chunk)
                size += len(chunk.value)
        offset = record.offset + 1
        count += 1
        if size >= max_bytes or count >= TURN:
            return Decoded(chunks, offset, foreign)
    return Decoded(chunks, offset, foreign, ended=True)


def chunk_of(epoch: int, partition: int, record: KafkaRecord) -> Chunk | None:
    """The chunk of a record; None for a fence.

    Raises Foreign where logsvc did not write it, NewerFormat where another version of logsvc did: its key is a stream.
    """
    named = dict(record.headers)
    version, key, value = named.get("v"), record.key, record.value
    if key is None:
        if "f" in named and version in _READABLE:
            return None
        raise Foreign("no key")
    try:
        stream = Stream.of(key)
    except BadKey as error:
        raise Foreign("not a stream's key") from error
    if version != _VERSION:  # looked at last: other programs have versions too, and theirs must not stop anybody
        _check(version, partition, record.offset)
    if value is None or len(value) > MAX_CHUNK:
        raise Foreign("no value of a chunk")
    return Chunk(epoch, partition, record.offset, record.timestamp, stream, value, named.get("o") or b"", "p" in named)


def _check(version: bytes | None, partition: int, offset: int) -> None:
    if version in _READABLE:
        return
    if version is None or not (version.isdigit() and len(version) < 5):
        raise Foreign("no format version")
    newer = int(version) > FORMAT_VERSION
    raise NewerFormat(
        f"the record at offset {offset} of partition {partition} has format {int(version)}, "
        f"{'newer' if newer else 'older'} than this logsvc reads: {'update logsvc' if newer else 'use an older logsvc'}"
    )
