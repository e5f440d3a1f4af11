"""What the store's SQL runs on, and what its errors mean. The embedded engine is one, a ClickHouse server another."""

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from logsvc.errors import StoreAway, StoreError, TooCostly


class Engine(Protocol):
    """Runs statements. Raises StoreAway, StoreError; cancelling a call leaves the engine usable."""

    async def query(
        self, sql: str, parameters: Mapping[str, object], count: Callable[[int], None] | None = None
    ) -> Sequence[Sequence[Any]]:
        """The result by column, strings as bytes; no columns where there are no rows.

        `count` is told how many rows of tables were read for it.
        """

    async def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """Insert `rows`, in RowBinary. They are stored when this returns."""

    async def command(self, sql: str) -> None:
        """Run a statement that changes the schema or drops parts."""

    async def close(self) -> None: ...


class TooMuch(TooCostly):
    """The result is larger, or needs more memory, than a read may take."""


class Unwell(StoreError):
    """The store can do nothing of the kind now, whatever it is given: somebody has to act."""


DISK_FULL: Final = "the disk of the store is full: lines wait in the bus until there is space"
DAMAGED: Final = "the store's data folder is damaged: restore it from a copy, or move it away to start an empty store"
NOT_LET_IN: Final = "the store doesn't know this user with this password"

_UNWELL: Final = {
    33: DAMAGED,  # CANNOT_READ_ALL_DATA
    40: DAMAGED,  # CHECKSUM_DOESNT_MATCH
    60: "the store has no such table: run `logsvc migrate`",  # UNKNOWN_TABLE
    81: "the store has no such database: run `logsvc migrate`",  # UNKNOWN_DATABASE
    89: DAMAGED,  # UNKNOWN_COMPRESSION_METHOD
    107: DAMAGED,  # FILE_DOESNT_EXIST
    164: "the store's user may only read: see `logsvc check`",  # READONLY
    192: NOT_LET_IN,  # UNKNOWN_USER
    193: NOT_LET_IN,  # WRONG_PASSWORD
    194: NOT_LET_IN,  # REQUIRED_PASSWORD
    226: DAMAGED,  # NO_FILE_IN_DATA_PART
    228: DAMAGED,  # BAD_SIZE_OF_FILE_IN_DATA_PART
    231: DAMAGED,  # TOO_MANY_UNEXPECTED_DATA_PARTS
    243: DISK_FULL,  # NOT_ENOUGH_SPACE
    246: DAMAGED,  # CORRUPTED_DATA
    271: DAMAGED,  # CANNOT_DECOMPRESS
    432: DAMAGED,  # UNKNOWN_CODEC
    497: "the store's user lacks rights: see `logsvc check`",  # ACCESS_DENIED
    516: NOT_LET_IN,  # AUTHENTICATION_FAILED
}
_REFUSED: Final = {
    117: "the store refused a value as malformed",  # INCORRECT_DATA
    427: "a pattern can't be compiled",  # CANNOT_COMPILE_REGEXP
}
_AWAY: Final = {
    202: "the store runs too many queries at once",  # TOO_MANY_SIMULTANEOUS_QUERIES
    209: "the store did not answer in time",  # SOCKET_TIMEOUT
    210: "the store can't be reached",  # NETWORK_ERROR
    225: "the store's servers can't reach Keeper",  # NO_ZOOKEEPER
    236: "the store is stopping",  # ABORTED
    279: "the store's servers can't reach each other",  # ALL_CONNECTION_TRIES_FAILED
    285: "too few of the store's servers are alive",  # TOO_FEW_LIVE_REPLICAS
    286: "the store's servers are at another insert",  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    289: "this server of the store is behind the others",  # REPLICA_IS_NOT_IN_QUORUM
    319: "the store's servers did not agree in time",  # UNKNOWN_STATUS_OF_INSERT
    394: "the store is stopping",  # QUERY_WAS_CANCELLED
    999: "the store's servers can't reach Keeper",  # KEEPER_EXCEPTION
    242: "the store takes no inserts now: its table is read-only",  # TABLE_IS_READ_ONLY
    252: "the store is behind with merging: inserts wait",  # TOO_MANY_PARTS
}


def rows_read(summary: Mapping[str, Any]) -> int:
    """Of a statement, from what ClickHouse says when it begins to answer (header `X-ClickHouse-Summary`)."""
    return int(summary.get("read_rows", 0))


def explain(error: Exception) -> StoreError:
    """The error in one sentence that holds no line content: ClickHouse's own text may quote values."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        return Unwell(DISK_FULL if error.errno == errno.ENOSPC else f"the store can't use its files: {error.strerror}")
    code = getattr(error, "code", None)
    if code in _AWAY:
        return StoreAway(_AWAY[code])
    if _no_space(str(error)):
        return Unwell(DISK_FULL)
    if code in {241, 396}:  # MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS_OR_BYTES
        return TooMuch("the query needs too much memory: narrow it by time, process or dyno")
    if code in {159, 160, 307}:  # TIMEOUT_EXCEEDED, TOO_SLOW, TOO_MANY_BYTES
        return TooCostly("the query takes too long or reads too much: narrow it by time, process or dyno")
    if code in _UNWELL:
        return Unwell(_UNWELL[code])
    if code in _REFUSED:
        return StoreError(_REFUSED[code])
    if isinstance(error, OperationalError):
        return StoreAway("the store can't be reached")
    if isinstance(error, ClickHouseError) and code:
        return StoreError(f"the store refused: {getattr(error, 'name', None) or 'error'} (code {code})")
    return StoreError(f"the store failed: {type(error).__name__}")


def _no_space(text: str) -> bool:
    return f"errno: {errno.ENOSPC}" in text or "No space left on device" in text
