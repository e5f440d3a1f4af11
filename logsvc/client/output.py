"""Standard output as the commands use it: whole writes, a reader that may go away, progress on a terminal's stderr."""

import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from logsvc.errors import ClientError
from logsvc.formats.terminal import plain

_EVERY: Final = 0.1


class Output:
    """A file descriptor to write to. BrokenPipeError means that nobody reads any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._mode = os.fstat(fd).st_mode
        except OSError as error:
            raise ClientError(f"there is no standard output: {error.strerror}") from error
        self.terminal = os.isatty(fd)

    @property
    def file(self) -> bool:
        return stat.S_ISREG(self._mode)

    def write(self, data: bytes) -> None:
        """Write all of it, waiting as long as the reader needs."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except BrokenPipeError:
                raise
            except OSError as error:
                raise ClientError(f"can't write the output: {error.strerror}") from error

    @contextmanager
    def watched(self, gone: Callable[[], None]) -> Iterator[None]:
        """Call `gone`, in another thread, when the reader of a pipe goes away while there is nothing to write."""
        if not (stat.S_ISFIFO(self._mode) or stat.S_ISSOCK(self._mode)):
            yield
            return
        stop, stopper = os.pipe()
        thread = threading.Thread(target=self._watch, args=(stop, gone), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(stopper)
            thread.join()
            os.close(stop)

    def _watch(self, stop: int, gone: Callable[[], None]) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)
        poll.register(stop, 0)
        if any(fd == self._fd for fd, _ in poll.poll()):
            gone()


class Progress:
    """How much of a long answer has come, on one line of a terminal; it is gone when the answer is there."""

    def __init__(self, fd: int, total: int | None) -> None:
        self._fd = fd
        self._of = f" of {total:,}" if total is not None else ""
        self._lines = self._bytes = 0
        self._shown = 0.0

    def add(self, lines: int, size: int) -> None:
        self._lines += lines
        self._bytes += size
        if monotonic() - self._shown >= _EVERY:
            self._shown = monotonic()
            self._write(f"\r{self._lines:,}{self._of} lines, {self._bytes / 1e6:,.1f} MB\x1b[K")

    def clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = 0.0

    def _write(self, text: str) -> None:
        os.write(self._fd, text.encode())


def tell(message: str) -> None:
    """One plain line on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"paas: {plain(message)}\n")
        sys.stderr.flush()
