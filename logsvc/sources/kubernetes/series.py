"""Which log files a container has, which bytes they are, and how far they are sent."""

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from logsvc.model import Origin
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.podlogs import (
    CHECKED,
    NOWHERE,
    Entry,
    LogFile,
    Rewritten,
    expand,
    folder,
    list_logs,
    open_log,
    unpacked_size,
)
from logsvc.sources.kubernetes.watch import Handler, Watcher

_SIZES: Final = 1 << 32
"""gzip's trailer has the size modulo this."""

logger = logging.getLogger(__name__)


class Loss(NamedTuple):
    """What can't be sent, to be said at its place."""

    origin: Origin
    """Closes the file that it was lost from."""
    restart: int
    reason: str
    """What it is counted as."""
    text: str
    unread: bool = False
    """It happened while nobody looked, between when collection ended and when it began again."""


class Series:
    """The log files of one container, in the order in which they were written."""

    def __init__(self, root: int, name: str, uid: str, collector: Collector, scratch: Path) -> None:
        """`root` is the descriptor of the folder of pods, `name` the container's folder in it, as `<pod>/<container>`.

        Compressed files are unpacked in `scratch`.
        """
        self.name = name
        self.files: list[LogFile] = []
        self.losses: list[Loss] = []
        """To be told before anything else is sent."""
        self.gone = False
        """The folder was deleted."""
        self._root = root
        self._collector = collector
        self._scratch = scratch
        self._path = tuple(name.split("/"))
        self.prefix = f"{uid}/{self._path[1]}/"
        """What the names of its files begin with in origins."""
        self._listed = 0
        """The folder's mtime when it was listed last."""
        self._bare = False
        """It had no file then."""
        self._placed_before = False
        self._said: set[str] = set()

    # ---- which there are

    def scan(self) -> None:
        """List the folder: take in new files, follow renamed ones. What can't be opened now is tried again."""
        try:
            with folder(self._root, *self._path) as fd:
                listing = list_logs(fd)
                self._listed, self._bare = listing.mtime, not listing.entries
                opened = [file for entry in self._match(listing.entries) if (file := self._open(fd, entry)) is not None]
        except (FileNotFoundError, NotADirectoryError):
            self.gone = True
            for file in self.files:
                file.deleted = True
            return
        except OSError as error:
            self._say(f"{self.name} can't be listed: {error.strerror}")
            self._listed, self._bare = 0, False
            return
        self.gone = False
        for file in list(self.files):
            if file.held_deleted and not file.id:
                self.identify(file)  # empty when it was found; by now its compressed copy may be among the new ones
        for name in listing.refused:
            self._say(f"{self.name}/{name} is not a regular file and is not read")
        self.files += opened
        self.files.sort(key=lambda file: file.name.restart)
        for file in opened:
            # At once: what is known of a file is forgotten when it is closed, and this may be its compressed copy.
            self.identify(file)

    def _open(self, directory: int, entry: Entry) -> LogFile | None:
        try:
            file = open_log(directory, entry)
        except OSError as error:
            self._say(f"{self.name}/{entry.name.name} can't be opened: {error.strerror}")
            file = None
        if file is None:
            self._listed = 0
        return file

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)

    def _match(self, entries: Sequence[Entry]) -> list[Entry]:
        """Follow the files that are known; return what is new."""
        by_inode = {file.inode: file for file in self.files if file.fd >= 0}
        by_name = {file.name.plain: file for file in self.files}
        plain = {entry.name.name for entry in entries}
        present: set[int] = set()
        new: list[Entry] = []
        for entry in entries:
            if entry.name.compressed and entry.name.plain in plain:
                continue  # being compressed: the plain one is still there
            file = by_inode.get(entry.inode)
            if file is None:
                file = by_name.get(entry.name.name if not entry.name.compressed else entry.name.plain)
                if file is not None and not self._same(file, entry):
                    file = None
            if file is None:
                new.append(entry)
            else:
                file.name = entry.name
                if file.fd < 0:
                    file.inode = entry.inode
                file.deleted = False
                present.add(id(file))
        for file in [file for file in self.files if id(file) not in present]:
            if file.fd >= 0:
                file.deleted = True
            else:
                self.files.remove(file)
                self._forget(file)
        return new

    @staticmethod
    def _same(file: LogFile, entry: Entry) -> bool:
        """Whether `entry`, of another inode or of a closed file, holds what `file` held: by its name."""
        return entry.name.compressed or (file.fd < 0 and file.inode == entry.inode)

    def _forget(self, file: LogFile) -> None:
        if file.id and not any(other.id == file.id for other in self.files):
            self._collector.forget([file.id])

    # ---- how far they are sent

    def restore(self) -> list[LogFile]:
        """Go to the places that the collector knows, as after a crash; the files that were read, at least in part."""
        untold = [loss for loss in self.losses if self._is_untold(loss)]
        self.losses.clear()
        for file in list(self.files):
            if not file.finished:
                file.id = ""
                file.place(0, b"")
                self.identify(file)
        read = self._collector.positions.keys() | self._unsent()
        # By their names, but those that were read before others are older whatever the clock said.
        self.files.sort(key=lambda file: (file.name.restart, file.id not in read))
        found = {loss.origin.file for loss in self.losses}
        self.losses[:0] = [loss for loss in untold if loss.origin.file not in found]
        if not self._placed_before:
            self._placed_before = True
            self._look_for_gap()
        return [file for file in self.files if file.id in read]

    def _is_untold(self, loss: Loss) -> bool:
        """Whether the bus has no notice of what was lost of a file, which nobody will find again."""
        known = self._collector.positions.get(loss.origin.file)
        return loss.origin.check == CLOSED and (known is None or known.check != CLOSED)

    def identify(self, file: LogFile, *, final: bool = False) -> bool:
        """Learn which bytes `file` holds and go to their place; whether its first line is there already.

        `final`: what there is of it is all there will be.
        """
        digest = file.identify(final=final)
        if not digest:
            return False
        name = f"{self.prefix}{file.name.restart}@{digest}"
        for number in count():
            file.id = f"{name}+{number}" if number else name
            twin = next((other for other in self.files if other.id == file.id and other is not file), None)
            if twin is not None and twin.deleted:
                self._unite(twin, file)
                return True
            if twin is not None:
                continue  # another file with the same first line
            origin = self._collector.positions.get(file.id)
            if origin is None or self._go_to(file, origin):
                return True
        raise AssertionError

    def _unite(self, file: LogFile, packed: LogFile) -> None:
        """What looked deleted was renamed and compressed since the folder was listed: go on with what is open."""
        file.name = packed.name
        file.deleted = False
        if file.fd < 0:
            file.inode = packed.inode
        packed.finish()
        self.files.remove(packed)

    def _go_to(self, file: LogFile, origin: Origin) -> bool:
        """Go on behind `origin`; False where that was another file, with the same first line."""
        if file.compressed:
            if origin.check == CLOSED or unpacked_size(file.fd) == origin.end:
                file.finish()
                file.position = origin.end
            return True
        if origin.check == CLOSED:
            return False
        tail = file.before(origin.end)
        if len(tail) == min(origin.end, CHECKED) and crc32(tail) == origin.check:
            file.place(origin.end, tail)
            return True
        self._lose(origin, file.name.restart, "rewritten", "a log file was written anew", unread=True)
        return False

    def _look_for_gap(self) -> None:
        """Where the file that was read last is gone, what it and those behind it held may be lost."""
        known = self._collector.files_of(self.prefix)
        here = {file.id for file in self.files}
        if known and self.files and known[-1] not in here:
            origin = self._collector.positions[known[-1]]
            if origin.check != CLOSED and not any(loss.origin.file == origin.file for loss in self.losses):
                restart = int(origin.file.removeprefix(self.prefix).partition("@")[0])
                self._lose(origin, restart, "deleted", "a log file was deleted", unread=True)
        self.forget_absent(known)

    def forget_absent(self, known: Iterable[str]) -> None:
        """Forget the positions of those of `known` that are not here any more: what is to be said of them was said.

        Only where every file of the folder is open or known: one whose position was forgotten would be sent again.
        """
        if not self._placed_before or not self._listed or self.gone or self.stale():
            return
        if all(file.id or file.is_empty for file in self.files):
            here = {file.id for file in self.files} | {loss.origin.file for loss in self.losses}
            self._collector.forget(set(known) - here)

    async def unpack(self, file: LogFile) -> bool:
        """Make `file` readable where it is compressed; whether there is something to read."""
        if file.compressed and not file.finished:
            if not file.id:
                self.identify(file)
            if not file.finished:
                await self._expand(file)
        return not file.finished and file.fd >= 0

    async def _expand(self, file: LogFile) -> None:
        fd, whole = await asyncio.to_thread(expand, file.fd, self._scratch)
        file.close()
        file.fd = fd
        file.inode = NOWHERE  # no descriptor keeps the old one from being given to another file
        file.compressed = False
        file.damaged = not whole
        if file.damaged and not file.size():
            self._refuse(file)
        elif not file.position:
            self.identify(file)

    async def reopen(self, file: LogFile) -> bool:
        """Make a file readable that may be finished; whether that can be done."""
        if file.fd < 0:
            with suppress(FileNotFoundError, NotADirectoryError), folder(self._root, *self._path) as fd:
                again = open_log(fd, Entry(file.name, file.inode))
                if again is not None:
                    file.fd, file.compressed = again.fd, again.compressed
            file.finished = False
        return await self.unpack(file)

    def collected(self, path: Path) -> bool:
        """Whether the bus has acknowledged every byte of a log file of this container; from any thread.

        False as well where the file isn't known, or not by that name yet: ask again.
        """
        plain = path.name.removesuffix(".gz")
        packed = plain != path.name
        try:
            with path.open("rb", buffering=0) as log:
                fd, status = log.fileno(), os.fstat(log.fileno())
                known = [
                    file
                    for file in list(self.files)
                    if (file.name.plain == plain if packed else file.inode == (status.st_dev, status.st_ino))
                ]
                unsent = self._unsent()
                return status.st_size == 0 or any(
                    file.id not in unsent and self._has_all(file, fd, packed=packed) for file in known
                )
        except OSError:
            return False

    def _unsent(self) -> list[str]:
        """Files from the first part of an unfinished line on up to the one that was read last: to be read again after
        a crash. Those that gave no chunk have no place of their own on the bus.
        """
        files, positions = [file.id for file in list(self.files)], self._collector.positions
        last = max((number for number, name in enumerate(files) if name in positions), default=None)
        if last is None or not (held := positions[files[last]].held):
            return []
        first = held[0][0]
        return files[files.index(first) if first in files else 0 : last + 1]

    def _has_all(self, file: LogFile, fd: int, *, packed: bool) -> bool:
        origin = self._collector.positions.get(file.id)
        if origin is None:
            return False
        if origin.check == CLOSED:
            return True
        if packed:
            return unpacked_size(fd) == origin.end % _SIZES
        # A descriptor that was closed keeps its inode from nobody: what is there must be what was read.
        start = max(origin.end - CHECKED, 0)
        return os.fstat(fd).st_size == origin.end and crc32(os.pread(fd, CHECKED, start)) == origin.check

    def pass_over(self) -> None:
        """Leave out all that there is: go on behind it, now and after a restart."""
        self.losses.clear()
        for file in self.files:
            if file.compressed:
                file.finish()
            elif file.fd >= 0:
                end = file.size()
                tail = file.before(end)
                file.place(end, tail)
                if file.id:
                    self._collector.moved(Origin(self._collector.node, file.id, end, end, crc32(tail)))

    # ---- what is lost

    def begin_anew(self, file: LogFile) -> None:
        """The file was truncated: it is another one from here on."""
        lost = file.seen - file.position
        if file.id and lost > 0:
            text = f"{lost} bytes of log were lost: the file was truncated before they were read"
            self.losses.append(Loss(self._closing(file), file.name.restart, "truncated", text))
        elif file.id:
            self._collector.forget([file.id])
        file.id = ""
        file.place(0, b"")

    def lose_held(self, origin: Origin, file: LogFile) -> None:
        """The file with the beginning of an unfinished line is gone."""
        text = "The beginning of a line was lost: a log file was deleted"
        place = origin._replace(start=origin.end, held=())
        self.losses.append(Loss(place, file.name.restart, "deleted", text, unread=True))

    def end_damaged(self, file: LogFile) -> None:
        """What could be unpacked of a damaged file is sent."""
        self._lose(self._closing(file), file.name.restart, "damaged", "a compressed log file is damaged")
        file.finish()

    def give_up(self, file: LogFile) -> None:
        """Close a deleted file that holds too much of the disk."""
        if not file.id:  # nobody has read it yet
            self.identify(file, final=True)
        if file.finished:  # it is another one's copy, or was sent before
            return
        lost = file.size() - file.position
        text = f"{lost} bytes of log were lost: the file was deleted, and too much of it was waiting to be read"
        if file.id:
            self.losses.append(Loss(self._closing(file), file.name.restart, "given_up", text))
        file.finish()

    def _refuse(self, file: LogFile) -> None:
        """Not even the beginning can be unpacked, so it is known by its name."""
        file.id = f"{self.prefix}{file.name.restart}@{file.name.plain}"
        if file.id in self._collector.positions:
            file.finish()
        else:
            self.end_damaged(file)

    def _lose(self, origin: Origin, restart: int, reason: str, why: str, *, unread: bool = False) -> None:
        text = f"Lines may be missing here: {why}"
        self.losses.append(Loss(origin._replace(check=CLOSED, held=()), restart, reason, text, unread))

    def _closing(self, file: LogFile) -> Origin:
        return Origin(self._collector.node, file.id, file.position, file.position, CLOSED)

    # ---- how they are doing

    @property
    def is_empty(self) -> bool:
        """Whether there is no file, neither in the folder nor open."""
        return not self.files and (self.gone or self._bare)

    def changed(self, restart: int | None = None) -> bool:
        """Whether an open file, of up to a restart, has bytes that were not seen yet, or can't be asked."""
        for file in self.files:
            if file.fd >= 0 and (restart is None or file.name.restart <= restart):
                try:
                    if file.compressed or file.changed():
                        return True
                except (Rewritten, OSError):
                    return True
        return False

    def waiting(self) -> int:
        """Bytes on the disk that the bus has not taken, as far as is known without unpacking."""
        return sum([max(file.size() - file.position, 0) for file in self.files if file.fd >= 0 and not file.compressed])

    def deleted_bytes(self) -> int:
        """Bytes of deleted files that are open."""
        return sum([file.size() for file in self.files if file.held_deleted])

    def stale(self) -> bool:
        """Whether the folder has changed since it was listed."""
        try:
            status = os.stat(self.name, dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return not self.gone
        return status.st_mtime_ns != self._listed

    def arm(self, watcher: Watcher, handler: Handler) -> bool:
        """Have the kernel report the next write to any of the open files; whether it does."""
        for file in self.files:
            if file.fd >= 0 and not file.armed and not file.compressed:
                file.armed = watcher.arm(file.fd, handler)
        return all(file.armed or file.fd < 0 or file.compressed for file in self.files)

    def disarm(self) -> None:
        """The kernel has reported a write; that file isn't watched any more."""
        for file in self.files:
            file.armed = False

    def drop(self, file: LogFile) -> None:
        """Close a file that is read to its end; one that was deleted is forgotten."""
        file.finish()
        if file.deleted and not self.gone:
            self.files.remove(file)
            self._forget(file)

    def close(self) -> None:
        for file in self.files:
            file.close()

    def bury(self) -> None:
        """Nothing of a deleted container will be read again."""
        self.close()
        self._collector.forget([file.id for file in self.files])
