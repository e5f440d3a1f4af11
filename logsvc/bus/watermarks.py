"""The watermarks of a `LocalBus`, in a small file of a fixed size.

Two slots are written in turn, in place: a crash leaves the other one whole, and a full disk is no hindrance, so
the store's progress can always free the journal's space. A slot is Q generation, I CRC-32 of the rest, I zero, then
Q per partition; the valid slot of the larger generation counts.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final, Self
from zlib import crc32

logger = logging.getLogger(__name__)

_HEAD: Final = Struct("<QII")
_SLOT: Final = 4096


class Watermarks:
    """Used by one thread at a time."""

    def __init__(self, fd: int, partitions: int) -> None:
        self._fd = fd
        self._offsets = Struct(f"<{partitions}Q")
        self._slot = -(-(_HEAD.size + self._offsets.size) // _SLOT) * _SLOT
        self._generation = 0
        self.offsets = [0] * partitions
        """By partition, the offset that was committed last; 0 where none was."""

    @classmethod
    def open(cls, folder: Path, partitions: int) -> Self:
        """Read the file, or make it. Where a power loss has left neither slot whole, all is 0. Raises OSError."""
        fd = os.open(folder / "watermarks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        watermarks = cls(fd, partitions)
        try:
            if os.fstat(fd).st_size == 0:
                for _ in range(2):  # both slots: they take their space now
                    watermarks.write(watermarks.offsets)
            elif not watermarks._read():
                logger.warning("the watermarks in %s are unreadable: the store begins again at the start", folder)
        except BaseException:
            os.close(fd)
            raise
        return watermarks

    def _read(self) -> bool:
        for slot in range(2):
            buffer = os.pread(self._fd, self._slot, slot * self._slot)
            if len(buffer) < _HEAD.size + self._offsets.size:
                continue
            generation, check, _ = _HEAD.unpack_from(buffer)
            body = buffer[_HEAD.size : _HEAD.size + self._offsets.size]
            if generation > self._generation and crc32(body, generation & 0xFFFFFFFF) == check:
                self._generation = generation
                self.offsets = list(self._offsets.unpack(body))
        return self._generation > 0

    def write(self, offsets: Sequence[int]) -> None:
        """Set all of them. Raises OSError, and they are what they were then."""
        generation = self._generation + 1
        body = self._offsets.pack(*offsets)
        buffer = _HEAD.pack(generation, crc32(body, generation & 0xFFFFFFFF), 0) + body
        written = os.pwrite(self._fd, buffer.ljust(self._slot, b"\0"), generation % 2 * self._slot)
        if written < self._slot:
            raise OSError(f"{written} of {self._slot} bytes written")
        self._generation = generation
        self.offsets = list(offsets)

    def close(self) -> None:
        os.close(self._fd)
