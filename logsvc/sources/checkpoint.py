"""What a collector remembers on its own disk: positions in files and how far it knows the bus.

The file is one line, `<CRC-32 of the rest, 8 hex digits> <JSON>`, replaced as a whole. It may be lost or
older than the bus: the bus (and the store) know the rest, it only says from where to look.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from logsvc.errors import FormatError
from logsvc.model import Origin

_VERSION: Final = 1

logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A checkpoint's content."""

    epoch: int
    cursors: Mapping[int, int]
    """By partition: every chunk of this node below that offset is in `positions`."""
    positions: Mapping[str, Origin]
    """The newest origin of each file, the most recent last."""


class Checkpoint:
    """The checkpoint of one node in the file `path`."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._node = node

    def load(self) -> Snapshot | None:
        """What was saved last; None where nothing was or where it can't be used.

        A file that can't be used is renamed to `<name>.corrupt` and named in the log.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _decode(content, self._node)
        except (FormatError, ValueError, TypeError, KeyError) as error:
            aside = self._path.with_name(self._path.name + ".corrupt")
            self._path.replace(aside)
            logger.warning("the checkpoint %s can't be used (%s): set aside as %s", self._path, error, aside.name)
            return None

    def save(self, content: bytes) -> None:
        """Replace the file by what `encode` gave. Blocks on the disk. Raises OSError."""
        fresh = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def encode(self, snapshot: Snapshot) -> bytes:
        """The file's content."""
        body = orjson.dumps(
            {
                "version": _VERSION,
                "node": self._node,
                "epoch": snapshot.epoch,
                "cursors": list(snapshot.cursors.items()),
                "positions": [origin[1:] for origin in snapshot.positions.values()],
            }
        )
        return b"%08x %b\n" % (crc32(body), body)


def _decode(content: bytes, node: str) -> Snapshot:
    check, _, body = content.rstrip(b"\n").partition(b" ")
    if int(check, 16) != crc32(body):
        raise FormatError("its checksum is wrong")
    fields = orjson.loads(body)
    if fields["version"] != _VERSION:
        raise FormatError(f"its version is {fields['version']}")
    if fields["node"] != node:
        raise FormatError("it was written on another node")
    positions = {
        file: Origin(node, file, start, end, check, tuple((name, at) for name, at in held))
        for file, start, end, check, held in fields["positions"]
    }
    return Snapshot(fields["epoch"], dict(fields["cursors"]), positions)
