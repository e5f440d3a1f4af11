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


def drains_of(records: Mapping[bytes, bytes], known: Mapping[str, Drain]) -> dict[str, Drain]:
    """The drains that a table has, by id. Raises NewerFormat.

    `known` is what it had before, so that a drain which is still the same stays the same object. What isn't a drain is
    another tool's: passed over.
    """
    drains = {}
    for key, value in records.items():
        if not key.startswith(DRAIN):
            continue
        try:
            drain = Drain.parse(value)
        except FormatError as error:
            logger.warning("%r is passed over: %s", key, error)
            continue
        before = known.get(drain.id)
        drains[drain.id] = drain if before is None or before != drain else before
    return drains


def positions_of(records: Mapping[bytes, bytes]) -> dict[str, Position]:
    """The positions that a table has, by the id of the drain. Raises NewerFormat, FormatError.

    One that can't be read stops its readers: to begin anew would send lines twice or not at all.
    """
    return {
        key.removeprefix(POSITION).decode(): Position.parse(value)
        for key, value in records.items()
        if key.startswith(POSITION)
    }
