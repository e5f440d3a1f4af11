"""What the kernel says of folders and files (inotify(7)), and a plain answer where it can't say it.

The libraries for it make a path, an enum and an object of each watch and event. Here there are thousands of them a
second, and a number each does.
"""

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable
from struct import Struct
from types import TracebackType
from typing import Final, Self

_MODIFY: Final = 0x2
_IGNORED: Final = 0x8000
_OVERFLOW: Final = 0x4000
_DIRECTORY: Final = (
    0x40 | 0x80  # moved from and to
    | 0x100 | 0x200 | 0x400  # created, deleted, deleted itself
    | 0x1000000 | 0x4000000  # folders only; nothing of deleted files that are open
)  # fmt: skip
_FILE: Final = _MODIFY | 0x80000000  # once

_EVENT: Final = Struct("iIII")
"""Watch, what happened, cookie, bytes of the name behind it."""
_BUFFER: Final = 8 * 1024
"""Bytes of events taken at once: some 250 writes, or a hundred new folders."""

_LIMITS: Final = {
    errno.ENOSPC: "fs.inotify.max_user_watches is reached",
    errno.EMFILE: "fs.inotify.max_user_instances is reached",
    errno.ENFILE: "the machine's limit of open files is reached",
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)

Handler = Callable[[str], None]
"""What to do when something has happened; the name of the entry of a watched folder that it happened to, or nothing."""


def init() -> int:
    """A descriptor that watches nothing yet. Raises OSError."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def add_watch(inotify: int, path: bytes, mask: int) -> int:
    """The number of a new watch, or of the one that is there. Raises OSError."""
    return _checked(_libc.inotify_add_watch(inotify, path, mask))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Watcher:
    """inotify by descriptor, so that no path is followed twice. A context manager.

    `problem` says in words why not everything is watched; what isn't has to be polled.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.overflowed = False
        """More has happened than the kernel could tell; for the caller to set back."""
        self._inotify = -1
        self._handlers: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        try:
            self._inotify = init()
        except OSError as error:
            self._refused(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def directory(self, fd: int, handler: Handler) -> bool:
        """Report from now on whatever is made, renamed or deleted in a folder; whether that can be done."""
        return self._add(fd, _DIRECTORY, handler)

    def arm(self, fd: int, handler: Handler) -> bool:
        """Report the next write to a file, once; whether that can be done."""
        return self._add(fd, _FILE, handler)

    async def wait(self) -> bool:
        """Wait until something has happened; False at once where there is no inotify."""
        if self._inotify < 0:
            return False
        loop = asyncio.get_running_loop()
        happened = asyncio.Event()
        loop.add_reader(self._inotify, happened.set)
        try:
            await happened.wait()
        finally:
            loop.remove_reader(self._inotify)
        return True

    def dispatch(self) -> bool:
        """Call the handlers of some of what has happened; whether anything has."""
        try:
            events = os.read(self._inotify, _BUFFER)
        except BlockingIOError:
            return False
        at = 0
        while at < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            # A write is reported once, and the kernel's word that the watch has gone with it says nothing new.
            gone = mask & (_IGNORED | _MODIFY)
            handler = self._handlers.pop(watch, None) if gone else self._handlers.get(watch)
            if mask & _OVERFLOW:
                self.overflowed = True
            elif handler is not None and not mask & _IGNORED:
                handler(os.fsdecode(events[at - length : at].rstrip(b"\0")))
        return True

    def _add(self, fd: int, mask: int, handler: Handler) -> bool:
        if self._inotify < 0:
            return False
        try:
            watch = add_watch(self._inotify, b"/proc/self/fd/%d" % fd, mask)
        except OSError as error:
            self._refused(error)
            return False
        self._handlers[watch] = handler
        return True

    def _refused(self, error: OSError) -> None:
        number = error.errno or 0
        reason = _LIMITS.get(number, os.strerror(number))
        self.problem = f"some files are polled, as inotify can't watch them: {reason}"
