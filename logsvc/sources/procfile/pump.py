"""Carry what one process writes from its two pipes to its log, in bounded turns of the event loop.

A turn is one read of at most 256 KiB, one look at the clock and one write; no work is done by line but the framing.
While the disk takes nothing, or nobody collects what is rotated, nothing is read: the pipes fill up and the process
waits in its write, as it would for a slow terminal.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

from logsvc.sources.procfile.crilog import CriLog

_READ = 256 * 1024
_PIPE = 1024 * 1024
# After a small read both pipes rest for so long. A line that comes alone is read at once; what comes faster is read
# 500 times a second and not once a line (10,000 lines/s: 5 us of CPU a line, not 15). Both, so that what stands in
# stdout isn't overtaken by a later line of stderr.
_REST = 0.002
_SMALL = 64 * 1024
_RETRY = 0.25


class Pump:
    """One process's pipes and log. Make it, give `stdout` and `stderr` to the process, call `started()`."""

    def __init__(self, log: CriLog, stalled: Callable[[str], None]) -> None:
        """`stalled` is called with the reason when the log takes no lines for longer than a moment."""
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._stalled = stalled
        self._told = False
        log.room = self._room
        self._retry: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()
        out, self.stdout = _pipe()
        try:
            err, self.stderr = _pipe()
        except OSError:
            os.close(out)
            os.close(self.stdout)
            raise
        self._open = {"stdout": out, "stderr": err}

    def started(self) -> None:
        """The process has its ends of the pipes, or never will: close ours, and read."""
        os.close(self.stdout)
        os.close(self.stderr)
        self._listen()

    def say(self, message: str) -> None:
        """A platform line, behind everything read so far."""
        self._write(self._log.framer.platform(message))

    async def drain(self, patience: float, stopping: asyncio.Event) -> None:
        """Wait until the pipes have ended and the disk has taken everything.

        Gives up after `patience` seconds where somebody who isn't ours holds a pipe open, and, once `stopping`, where
        the log takes nothing.
        """
        # What is left is at most what the pipes hold: the collector needn't come first.
        self._log.ending = True
        while not self._done.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._done.wait()
            except TimeoutError:
                if self._retry is None or stopping.is_set():
                    return

    def close(self) -> None:
        """Let go of pipes and log. What the pipes still hold is lost."""
        for name in list(self._open):
            self._end(name)
        for timer in (self._retry, self._rest):
            if timer is not None:
                timer.cancel()
        self._retry = None
        self._log.close()

    def _listen(self) -> None:
        self._rest = None
        if self._retry is None:
            for name, pipe in self._open.items():
                self._loop.add_reader(pipe, self._turn, name)

    def _pause(self) -> None:
        for pipe in self._open.values():
            self._loop.remove_reader(pipe)

    def _turn(self, name: str) -> None:
        try:
            data = os.read(self._open[name], _READ)
        except BlockingIOError:
            return
        if not data:
            self._end(name)
            return
        if len(data) < _SMALL:
            self._pause()
            self._rest = self._loop.call_later(_REST, self._listen)
        self._write(self._log.framer.feed(name, data))

    def _end(self, name: str) -> None:
        """The pipe has ended, or is given up."""
        pipe = self._open.pop(name)
        self._loop.remove_reader(pipe)
        os.close(pipe)
        self._write(self._log.framer.finish(name))

    def _write(self, framed: bytes) -> None:
        self._settle(taken=self._log.write(framed))

    def _room(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._try_again()

    def _try_again(self) -> None:
        self._retry = None
        taken = self._settle(taken=self._log.flush())
        if taken and self._rest is None:
            self._listen()
        if not taken and not self._told:
            self._told = True
            error = self._log.error
            self._stalled((error and error.strerror) or "too much waits to be collected")

    def _settle(self, *, taken: bool) -> bool:
        if taken:
            self._told = False
        elif self._retry is None:
            self._pause()
            self._retry = self._loop.call_later(_RETRY, self._try_again)
        if taken and not self._open:
            self._done.set()
        else:
            self._done.clear()
        return taken


def _pipe() -> tuple[int, int]:
    """A pipe's ends: ours doesn't block, the process's does."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    # A larger one is a kindness to apps that write in bursts. Users have a quota of it.
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
    return reading, writing
