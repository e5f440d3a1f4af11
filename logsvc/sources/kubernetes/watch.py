"""What the kernel says of folders and files, and a plain answer where it can't say it."""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from asyncinotify import Inotify, Mask

_DIRECTORY: Final = (
    Mask.CREATE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.DELETE | Mask.DELETE_SELF | Mask.ONLYDIR | Mask.EXCL_UNLINK
)
_FILE: Final = Mask.MODIFY | Mask.ONESHOT

_LIMITS: Final = {
    errno.ENOSPC: "fs.inotify.max_user_watches is reached",
    errno.EMFILE: "fs.inotify.max_user_instances is reached",
    errno.ENFILE: "the machine's limit of open files is reached",
}


Handler = Callable[[], Awaitable[None]]
"""What to do when something has happened."""


class Watcher:
    """inotify by descriptor, so that no path is followed twice. A context manager.

    `problem` says in words why not everything is watched; what isn't has to be polled.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._inotify: Inotify | None = None
        self._handlers: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._refused(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def directory(self, fd: int, handler: Handler) -> bool:
        """Report from now on whatever is made, renamed or deleted in a folder; whether that can be done."""
        return self._add(fd, _DIRECTORY, handler)

    def arm(self, fd: int, handler: Handler) -> bool:
        """Report the next write to a file, once; whether that can be done."""
        return self._add(fd, _FILE, handler)

    async def events(self) -> AsyncIterator[Handler | None]:
        """The handlers of what happens, without end; None: more happened than the kernel could tell.

        Ends at once where there is no inotify.
        """
        if self._inotify is None:
            return
        async for event in self._inotify:
            if event.mask & Mask.Q_OVERFLOW:
                yield None
            elif event.watch is not None:
                gone = event.mask & (Mask.IGNORED | Mask.MODIFY)  # a MODIFY is reported once
                handlers = self._handlers
                handler = handlers.pop(event.watch.wd, None) if gone else handlers.get(event.watch.wd)
                if handler is not None and not event.mask & Mask.IGNORED:
                    yield handler

    def _add(self, fd: int, mask: Mask, handler: Handler) -> bool:
        if self._inotify is None:
            return False
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", mask)
        except OSError as error:
            self._refused(error)
            return False
        self._handlers[watch.wd] = handler
        return True

    def _refused(self, error: OSError) -> None:
        number = error.errno or 0
        reason = _LIMITS.get(number, os.strerror(number))
        self.problem = f"some files are polled, as inotify can't watch them: {reason}"
