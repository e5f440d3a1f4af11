"""Files below `/var/log/pods`: what their names mean, and how to read them without following a link.

    <namespace>_<pod>_<uid>/<container>/<restart>.log                   being written
                                        <restart>.log.20261123-041500   rotated
                                        <restart>.log.20261123-041500.gz

Source: kubernetes/pkg/kubelet/logs/container_log_manager.go. Nothing here waits but the disk.
"""

import errno
import os
import re
import stat
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

CHECKED: Final = 64
"""Bytes before a position that tell a file that was written anew from one that grew."""

NOWHERE: Final = (-1, -1)
"""Inode of a file that has none below the folder."""

_HEAD: Final = 1024
_BLOCK: Final = 1 << 20

_NAME: Final = re.compile(r"(\d{1,9})\.log(?:\.(\d{8}-\d{6})(?:[.-](\d{1,9}))?)?(\.gz)?", re.ASCII)

_ATTEMPTS: Final = 100

_TICK: Final = 20_000_000
"""ns; the kernel's clock for the times of files goes in steps of up to 10 ms."""

_NO_LINK: Final = os.O_NOFOLLOW | os.O_CLOEXEC


class Pod(NamedTuple):
    """A pod's folder."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def parse(cls, folder: str) -> "Pod | None":
        """`<namespace>_<pod>_<uid>`; None for another name."""
        parts = folder.split("_")
        return cls(*parts) if len(parts) == 3 and all(parts) else None

    def __str__(self) -> str:
        return f"{self.namespace}_{self.name}_{self.uid}"


class LogName(NamedTuple):
    """A log file's name. Compares by age: rotated ones first, then the one that is written."""

    restart: int
    current: bool
    rotated: str
    number: int
    """Tells rotations in the same second apart."""
    compressed: bool
    name: str

    @classmethod
    def parse(cls, name: str) -> "LogName | None":
        """None for anything that is not a log file."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        restart, rotated, number, compressed = match.groups()
        return cls(int(restart), rotated is None, rotated or "", int(number or 0), compressed is not None, name)

    @property
    def plain(self) -> str:
        """The name before compression."""
        return self.name.removesuffix(".gz")


class Entry(NamedTuple):
    """A log file as its folder lists it."""

    name: LogName
    inode: tuple[int, int]
    """Device and inode."""


class Listing(NamedTuple):
    """A container's folder."""

    entries: list[Entry]
    refused: list[str]
    """Names of logs that are no regular files."""
    mtime: int
    """The folder's, in ns; 0 where it has changed so lately that another change might not show in it."""


@contextmanager
def folder(root: int, *names: str) -> Iterator[int]:
    """A descriptor of `root/names…`, none of them a link. Raises OSError (ELOOP or ENOTDIR for a link)."""
    fd = root
    try:
        for name in names:
            parent = fd
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=parent)
            if parent != root:
                os.close(parent)
        yield fd
    finally:
        if fd != root:
            os.close(fd)


def subfolders(fd: int) -> tuple[list[str], list[str]]:
    """Names of the folders in a folder, and names of the links to one, which are refused."""
    names: list[str] = []
    refused: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_symlink():
                refused.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
    return sorted(names), refused


def list_logs(fd: int) -> Listing:
    """The log files in a container's folder at one moment, oldest first.

    Raises OSError, BlockingIOError where others change the folder faster than it can be listed.
    """
    for _ in range(_ATTEMPTS):
        # Before the names are read: a change meanwhile makes the time differ, and the folder is listed again.
        mtime = os.fstat(fd).st_mtime_ns
        now = time.time_ns()
        names = _snapshot(fd)
        listing = _examine(fd, names, mtime if now - mtime > _TICK else 0)
        # A file that is renamed in between has neither its old name nor its new one: it would seem to be deleted.
        if listing is not None and _snapshot(fd) == names:
            return listing
    raise BlockingIOError(errno.EAGAIN, "it changes all the time")


def _snapshot(fd: int) -> dict[LogName, int]:
    """Names of log files with the inodes that the folder says they have."""
    with os.scandir(fd) as found:
        return {name: entry.inode() for entry in found if (name := LogName.parse(entry.name)) is not None}


def _examine(fd: int, names: Iterable[LogName], mtime: int) -> Listing | None:
    """What the names stand for; None where one of them is gone."""
    entries: list[Entry] = []
    refused: list[str] = []
    for name in names:
        try:
            status = os.stat(name.name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISREG(status.st_mode):
            entries.append(Entry(name, (status.st_dev, status.st_ino)))
        else:
            refused.append(name.name)
    return Listing(sorted(entries), refused, mtime)


class Rewritten(Exception):
    """The file is not the one whose position we have: it was truncated or written anew."""


class LogFile:
    """A file that is open, or was, and the position up to which it is sent."""

    __slots__ = (
        "armed",
        "compressed",
        "damaged",
        "deleted",
        "fd",
        "finished",
        "id",
        "incomplete",
        "inode",
        "name",
        "position",
        "seen",
        "since",
        "tail",
    )

    def __init__(self, entry: Entry, fd: int) -> None:
        self.name = entry.name
        self.inode = entry.inode
        self.fd = fd
        """-1 where closed."""
        self.compressed = entry.name.compressed
        """What `fd` reads is gzip; `expand` first."""
        self.damaged = False
        """Only the beginning could be unpacked."""
        self.id = ""
        """Origin.file; empty until the file's first line is there."""
        self.armed = False
        """The kernel reports the next write."""
        self.deleted = False
        self.finished = False
        """Read to its end, closed, and a later file has taken its place."""
        self.place(0, b"")

    def place(self, position: int, tail: bytes) -> None:
        """Go on at `position`; `tail` is the up to CHECKED bytes before it."""
        self.position = position
        self.tail = tail
        self.incomplete = 0
        """Bytes behind the position that are read and hold no whole line."""
        self.since = 0.0
        """When the last of them was seen, by the loop's clock."""
        self.seen = position
        """The largest size that was seen."""

    @property
    def held_deleted(self) -> bool:
        """Deleted, but its bytes stay on the disk for us."""
        return self.deleted and self.fd >= 0

    def identify(self, *, final: bool = False) -> str:
        """A hash of the first line (of its first KiB where it is longer), or nothing while it isn't whole.

        `final`: it won't become so.
        """
        head = b""
        if self.compressed:
            with suppress(Damaged):
                head = next(unpack(self.fd, _HEAD), b"")
        else:
            head = os.pread(self.fd, _HEAD, 0)
        end = head.find(b"\n") + 1
        if not end and len(head) < _HEAD and not (final and head):
            return ""
        return blake2b(head[: end or _HEAD], digest_size=8).hexdigest()

    def read(self, size: int) -> bytes:
        """The tail and up to `size` bytes behind it. Raises Rewritten."""
        tail = self.tail
        data = os.pread(self.fd, len(tail) + size, self.position - len(tail))
        if not data.startswith(tail):
            raise Rewritten
        self.seen = max(self.seen, self.position + len(data) - len(tail))
        return data

    def unfinished(self, size: int, now: float) -> None:
        """There are `size` bytes behind the position, and no whole line."""
        if size != self.incomplete:
            self.incomplete, self.since = size, now

    def changed(self) -> bool:
        """Whether there are bytes that were not seen yet. Raises Rewritten."""
        seen = len(self.tail) + self.incomplete
        data = os.pread(self.fd, seen + 1, self.position - len(self.tail))
        if not data.startswith(self.tail) or len(data) < seen:
            raise Rewritten
        return len(data) > seen

    def moved(self, position: int, data: bytes, end: int) -> None:
        """`data[:end]` is sent or held, and ends at `position`."""
        self.tail = data[max(end - CHECKED, 0) : end]
        self.position = position
        self.incomplete = 0

    def read_at(self, position: int, size: int) -> bytes:
        return os.pread(self.fd, size, position)

    def before(self, position: int) -> bytes:
        """Up to CHECKED bytes in front of a position."""
        start = max(position - CHECKED, 0)
        return os.pread(self.fd, position - start, start)

    @property
    def is_empty(self) -> bool:
        """Nothing was written to it yet."""
        return self.fd >= 0 and not self.compressed and self.size() == 0

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def finish(self) -> None:
        """There is nothing more to read."""
        self.finished = True
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.armed = False


def open_log(directory: int, entry: Entry) -> LogFile | None:
    """Open a log file; None where it is gone or was replaced since it was listed. Raises OSError."""
    try:
        fd = os.open(entry.name.name, os.O_RDONLY | os.O_NONBLOCK | _NO_LINK, dir_fd=directory)
    except FileNotFoundError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != entry.inode:
        os.close(fd)
        return None
    return LogFile(entry, fd)


def unpacked_size(fd: int) -> int:
    """What gzip's trailer says of the size, modulo 2**32 and only if the file has one member."""
    size = os.fstat(fd).st_size
    return int.from_bytes(os.pread(fd, 4, max(size - 4, 0)), "little")


class Damaged(Exception):
    """Not gzip, or gzip that ends early or fails its check."""


def unpack(fd: int, size: int = _BLOCK) -> Iterator[bytes]:
    """The content of a gzip file in pieces of up to `size` bytes. Raises Damaged behind as much of it as there is."""
    at = 0
    unpacker = zlib.decompressobj(31)
    packed = b""
    while True:
        if not packed:
            packed = os.pread(fd, size, at)
            at += len(packed)
            if not packed:
                raise Damaged
        try:
            data = unpacker.decompress(packed, size)
        except zlib.error as error:
            raise Damaged from error
        if data:
            yield data
        packed = unpacker.unconsumed_tail
        if unpacker.eof:
            packed = unpacker.unused_data or os.pread(fd, size, at)
            at += 0 if unpacker.unused_data else len(packed)
            if not packed:
                return
            unpacker = zlib.decompressobj(31)


def expand(fd: int, scratch: Path) -> tuple[int, bool]:
    """Unpack gzip into a nameless file in `scratch`; its descriptor, and whether the end was reached.

    Takes as long as it takes: for a thread. Raises OSError where the disk refuses.
    """
    whole = True
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as plain:
        try:
            for data in unpack(fd):
                rest = memoryview(data)
                while rest:
                    rest = rest[plain.write(rest) :]
        except Damaged:
            whole = False
        return os.dup(plain.fileno()), whole
