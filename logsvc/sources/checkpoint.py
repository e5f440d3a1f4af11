"""What a collector remembers on its own disk: positions in files and how far it knows the bus.

It may be lost or older than the bus: the bus (and the store) know the rest, it only says from where to look.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from logsvc.errors import FormatError
from logsvc.model import Origin
from logsvc.sources.checked import CheckedFile

_VERSION: Final = 1


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
        self._file = CheckedFile(path, "checkpoint")
        self._node = node

    def load(self) -> Snapshot | None:
        """What was saved last; None where nothing was, or where it can't be used and was set aside."""
        return self._file.load(self._decode)

    def saved_at(self) -> int:
        """When it was saved last, Unix ns; 0 where it isn't there."""
        return self._file.saved_at()

    def save(self, content: bytes) -> None:
        """Replace the file by what `encode` gave. Blocks on the disk. Raises OSError."""
        self._file.save(content)

    def encode(self, snapshot: Snapshot) -> bytes:
        """The file's content."""
        return self._file.encode(
            {
                "version": _VERSION,
                "node": self._node,
                "epoch": snapshot.epoch,
                "cursors": list(snapshot.cursors.items()),
                "positions": [origin[1:] for origin in snapshot.positions.values()],
            }
        )

    def _decode(self, fields: Any) -> Snapshot:
        if fields["version"] != _VERSION:
            raise FormatError(f"its version is {fields['version']}")
        if fields["node"] != self._node:
            raise FormatError("it was written on another node")
        positions = {
            file: Origin(self._node, file, start, end, check, tuple((name, at) for name, at in held))
            for file, start, end, check, held in fields["positions"]
        }
        return Snapshot(fields["epoch"], dict(fields["cursors"]), positions)
