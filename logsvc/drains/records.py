"""Drains, positions and statuses as records: what their keys look like, and what a table of records says. No I/O.

A table is the last value of each key; so is a compacted topic. `drain/<id>` says that there is a drain, `position/<id>`
how far it is, `status/<id>` how it does. A key that goes takes what it said with it.
"""

import logging
from collections.abc import Mapping
from typing import Final

from logsvc.drains.model import Drain, Position
from logsvc.errors import FormatError

DRAIN: Final = b"drain/"
POSITION: Final = b"position/"
STATUS: Final = b"status/"

logger = logging.getLogger(__name__)


def drain_key(drain: str) -> bytes:
    return DRAIN + drain.encode()


def position_key(drain: str) -> bytes:
    return POSITION + drain.encode()


def status_key(drain: str) -> bytes:
    return STATUS + drain.encode()


class DrainTable:
    """The drains that a table of records has. A drain whose record is the same stays the same object."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bytes, Drain | None]] = {}
        self.drains: Mapping[str, Drain] = {}
        """By id; another mapping after each change."""

    def update(self, records: Mapping[bytes, bytes]) -> None:
        """Have `drains` say what `records` do. Raises NewerFormat, and then nothing changes."""
        known = {}
        for key, value in records.items():
            if key.startswith(DRAIN):
                before = self._known.get(key)
                known[key] = before if before is not None and before[0] == value else (value, _drain(key, value))
        if known != self._known:
            self._known = known
            self.drains = {drain.id: drain for _, drain in known.values() if drain is not None}


def _drain(key: bytes, value: bytes) -> Drain | None:
    """What isn't a drain is another tool's: passed over."""
    try:
        return Drain.parse(value)
    except FormatError as error:
        logger.warning("%r is passed over: %s", key, error)
        return None


def told_of(records: Mapping[bytes, bytes]) -> frozenset[str]:
    """Ids of the drains that a table has positions or statuses of, whether there are such drains or not."""
    return frozenset(
        key.removeprefix(kind).decode() for key in records for kind in (POSITION, STATUS) if key.startswith(kind)
    )


def positions_of(records: Mapping[bytes, bytes]) -> dict[str, Position]:
    """The positions that a table has, by the id of the drain. Raises NewerFormat, FormatError.

    One that can't be read stops its readers: to begin anew would send lines twice or not at all.
    """
    return {
        key.removeprefix(POSITION).decode(): Position.parse(value)
        for key, value in records.items()
        if key.startswith(POSITION)
    }
