"""A small file that is replaced as a whole, and is known to be whole when it is read.

It is one line, `<CRC-32 of the rest, 8 hex digits> <JSON>`.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import orjson

from logsvc.errors import FormatError

T = TypeVar("T")

logger = logging.getLogger(__name__)


class CheckedFile:
    """JSON in the file `path`; `what` names it in the log."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what

    def load(self, decode: Callable[[Any], T]) -> T | None:
        """What `decode` makes of what was saved last; None where nothing was or where it can't be used.

        A file that can't be used is renamed to `<name>.corrupt` and named in the log. `decode` raises FormatError,
        ValueError, TypeError or KeyError for what it can't use.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode(_whole(content))
        except (FormatError, ValueError, TypeError, KeyError) as error:
            aside = self._path.with_name(self._path.name + ".corrupt")
            self._path.replace(aside)
            logger.warning("the %s %s can't be used (%s): set aside as %s", self._what, self._path, error, aside.name)
            return None

    def saved_at(self) -> int:
        """When it was saved last, Unix ns; 0 where it isn't there."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def save(self, content: bytes) -> None:
        """Replace the file by what `encode` gave. Blocks on the disk. Raises OSError."""
        fresh = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    @staticmethod
    def encode(value: Any) -> bytes:
        """The file's content."""
        body = orjson.dumps(value)
        return b"%08x %b\n" % (crc32(body), body)


def _whole(content: bytes) -> Any:
    check, _, body = content.rstrip(b"\n").partition(b" ")
    if int(check, 16) != crc32(body):
        raise FormatError("its checksum is wrong")
    return orjson.loads(body)
