"""The format of the journal's files. Bytes only, no I/O.

A segment is `<sequence, 12 digits>.journal`: a head, then records, little-endian and without padding between them.

    head     8s magic, I version, I length of the JSON, I CRC-32 of the JSON (seeded with the version), JSON
    record   4s magic, I CRC-32 of all that follows, seeded with the segment's seed,
             I value bytes, Q offset, Q appended (Unix ms), I key bytes, I origin bytes, H partition, B flags, x,
             key, origin, value

The head's JSON holds the epoch, the seed and, for each partition, the offset of its first record from here on, so
that a journal without records still knows its next offsets. The seed is random: nobody who writes log lines can
forge bytes that look like a record of this segment.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple, Self
from zlib import crc32

import orjson

from logsvc.errors import NewerFormat

VERSION: Final = 1
FENCE: Final = 1
"""Flag: a record that readers skip."""
PARTIAL: Final = 2
"""Flag: the chunk's `partial`."""

MAX_KEY: Final = 64 * 1024
MAX_ORIGIN: Final = 1024 * 1024
BLOCK: Final = 4 * 1024 * 1024
"""How much is read at once; larger than any record."""

_HEAD: Final = Struct("<8sIII")
_HEAD_MAGIC: Final = b"LOGSVCJ\n"
_MAGIC: Final = b"\xf5LR\n"
_MARK: Final = Struct("<4sI")
_BODY: Final = Struct("<IQQIIHBx")
_RECORD: Final = Struct("<4sIIQQIIHBx")
GAP: Final = 1 << 24
"""Offsets left out where records may have been lost that somebody has seen: more than a segment holds of them."""
OVERHEAD: Final = _RECORD.size
"""Bytes of a record besides key, origin and value."""


class Record(NamedTuple):
    """One record, as it stands in a segment."""

    partition: int
    offset: int
    appended: int
    flags: int
    key: bytes
    origin: bytes
    value: bytes


class Place(NamedTuple):
    """Where a record stands in a buffer, and which one it is."""

    start: int
    end: int
    partition: int
    offset: int
    appended: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a segment says of itself."""

    sequence: int
    epoch: int
    seed: int
    next: tuple[int, ...]
    """By partition, the offset of its first record in this segment or a later one."""
    appended: int
    """No record from here on is older than this, Unix ms."""
    jumps: bool = False
    """Whether offsets were left out in front of it, on purpose: see `GAP`."""

    def encode(self) -> bytes:
        body = orjson.dumps(self)
        return _HEAD.pack(_HEAD_MAGIC, VERSION, len(body), crc32(body, VERSION)) + body

    @classmethod
    def decode(cls, buffer: bytes) -> tuple[Self, int] | None:
        """The head and its length in bytes; None where `buffer` doesn't start with a whole one. Raises NewerFormat."""
        if len(buffer) < _HEAD.size:
            return None
        magic, version, length, check = _HEAD.unpack_from(buffer)
        if magic != _HEAD_MAGIC:
            return None
        if version > VERSION:
            raise NewerFormat(f"the journal has format {version} and was written by a newer logsvc: start that one")
        body = buffer[_HEAD.size : _HEAD.size + length]
        if len(body) < length or crc32(body, version) != check:
            return None
        fields = orjson.loads(body)
        fields["next"] = tuple(fields["next"])
        return cls(**fields), _HEAD.size + length

    @staticmethod
    def begins(buffer: bytes) -> bool:
        """Whether a whole file is only a part of a head: its writing was cut short, so no record ever followed."""
        cut = buffer[: len(_HEAD_MAGIC)] == _HEAD_MAGIC[: len(buffer)]
        whole = b"}" in buffer[_HEAD.size :]  # the end of the JSON, which holds no other
        return (cut and not whole) or not any(buffer)


def encode(record: Record, seed: int) -> bytes:
    """A record's bytes up to its value, which follows as it is."""
    partition, offset, appended, flags, key, origin, value = record
    body = _BODY.pack(len(value), offset, appended, len(key), len(origin), partition, flags) + key + origin
    return _MARK.pack(_MAGIC, crc32(value, crc32(body, seed))) + body


def decode(buffer: bytes, start: int, end: int, seed: int) -> Record | None:
    """The record that fills `buffer` from `start` to `end`; None where it is damaged."""
    if len(buffer) < end:
        return None
    magic, check, length, offset, appended, key, origin, partition, flags = _RECORD.unpack_from(buffer, start)
    at_key = start + OVERHEAD
    at_origin = at_key + key
    at_value = at_origin + origin
    if (
        magic != _MAGIC
        or at_value + length != end
        or crc32(memoryview(buffer)[start + _MARK.size : end], seed) != check
    ):
        return None
    key, origin = buffer[at_key:at_origin], buffer[at_origin:at_value]
    return Record(partition, offset, appended, flags, key, origin, buffer[at_value:end])


def places(buffer: bytes, seed: int, start: int = 0) -> Iterator[Place]:
    """The sound records of `buffer` from `start` on, up to the first that is cut or damaged."""
    view = memoryview(buffer)
    size = len(buffer)
    while start + OVERHEAD <= size:
        magic, check, length, offset, appended, key, origin, partition, _ = _RECORD.unpack_from(buffer, start)
        end = start + OVERHEAD + key + origin + length
        if magic != _MAGIC or end > size or crc32(view[start + _MARK.size : end], seed) != check:
            return
        yield Place(start, end, partition, offset, appended)
        start = end


def sound_record_behind(buffer: bytes, seed: int, start: int) -> int | None:
    """Where, from `start` on, the first sound record stands: proof that what is before it is not just a torn end."""
    while (start := buffer.find(_MAGIC, start)) >= 0:
        if next(places(buffer, seed, start), None) is not None:
            return start
        start += 1
    return None


def new_head(sequence: int, epoch: int, following: Sequence[int], appended: int, *, jumps: bool = False) -> Head:
    """The head of a segment that begins now."""
    return Head(sequence, epoch, secrets.randbits(32), tuple(following), appended, jumps)
