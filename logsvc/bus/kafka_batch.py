"""A batch of records as a producer sends it: version 2 of Kafka's message format (KIP-98), compressed with zstd.

aiokafka's builder makes a new compressor for each batch, which costs more than the compression of a small one.
"""

import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from aiokafka.record.util import calc_crc32c

_HEAD: Final = struct.Struct(">qiibI")
"""Offset, length of what follows, leader's epoch, version, CRC-32C of what follows."""
_BODY: Final = struct.Struct(">hiqqqhii")
"""Attributes, offset of the last record, first and last time, producer's id and epoch, sequence number, records."""
_UNCOUNTED: Final = 12
"""Bytes of the head that the length does not count."""
_VERSION: Final = 2
_ZSTD: Final = 4
_ROOM: Final = 64
"""At least what a record has besides its key, value and headers."""


class Outgoing(NamedTuple):
    """A record to be."""

    key: bytes | None
    value: bytes | None
    """None takes the key out of a compacted topic."""
    headers: Sequence[tuple[str, bytes]]

    @property
    def size(self) -> int:
        """About its bytes in a batch."""
        size = _ROOM + len(self.value or b"") + len(self.key or b"")
        for name, value in self.headers:
            size += len(name) + len(value)
        return size


def encode(
    records: Sequence[Outgoing], producer: tuple[int, int], sequence: int, compress: Callable[[bytes], bytes]
) -> bytes:
    """A batch of one record or more. `producer`: its id and epoch; `sequence`: the number of the first record."""
    parts: list[bytes] = []
    for number, record in enumerate(records):
        _encode(record, number, parts)
    count, now = len(records), time.time_ns() // 1_000_000
    body = _BODY.pack(_ZSTD, count - 1, now, now, *producer, sequence, count) + compress(b"".join(parts))
    return _HEAD.pack(0, len(body) + _HEAD.size - _UNCOUNTED, -1, _VERSION, calc_crc32c(body)) + body


def _encode(record: Outgoing, number: int, parts: list[bytes]) -> None:
    key, value, headers = record
    before = b"\0\0" + _varint(number)  # attributes, and how much later than the first
    before += _varint(-1) if key is None else _varint(len(key)) + key
    before += _varint(-1 if value is None else len(value))
    value = value or b""
    after = _varint(len(headers))
    for name, content in headers:
        after += _varint(len(name)) + name.encode("ascii") + _varint(len(content)) + content
    parts += (_varint(len(before) + len(value) + len(after)), before, value, after)


def _varint(number: int) -> bytes:
    """Zigzag, then 7 bits a byte, the lowest first."""
    number = (number << 1) ^ (number >> 63)
    if number < 0x80:
        return _SHORT[number]
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SHORT: Final = [bytes([number]) for number in range(0x80)]
