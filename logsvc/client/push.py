"""`paas logs:push`: another program's output as lines of an app.

Standard input can't be read twice, so lines are posted in batches that are kept until the service has them. Each
has a key of its own, so one that is posted again is not stored again.
"""

import math
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from types import FrameType
from typing import Final
from uuid import uuid4

import click

from logsvc.client.options import app_option
from logsvc.client.output import Output, tell
from logsvc.client.service import Backoff, Parameters, Service, app_path
from logsvc.client.settings import load
from logsvc.errors import ClientError, Unavailable

BATCH: Final = 1024 * 1024
"""Bytes after which a batch is posted."""
LINGER: Final = 0.2
"""Seconds after which a line is posted, however small the batch."""
PIECE: Final = 256 * 1024
"""The service's longest line; it cuts longer ones there, and so can we without changing what it stores."""
LONGEST: Final = 16 * PIECE
"""Most bytes of an unfinished line that are kept together."""
PATIENCE: Final = 120.0
"""Seconds a batch is tried for."""
GRACE: Final = 1.0
"""Seconds that the program in front of us has for its last words after Ctrl-C, which it gets as well."""

_READ: Final = 64 * 1024


@click.command("logs:push")
@app_option
@click.option("-p", "--process-type", required=True, metavar="NAME", help="The process type the lines are of.")
@click.option("-d", "--dyno-name", "--dyno", metavar="NAME", help="The dyno the lines are of.  [default: NAME.1]")
@click.option("--tee", is_flag=True, help="Pass the lines on to standard output too.")
def push(app: str, process_type: str, dyno_name: str | None, tee: bool) -> None:
    """Store what comes on standard input as lines of an app.

    Prints nothing and ends with 0 when every line is stored.
    """
    parameters = [("process", process_type), ("dyno", dyno_name or f"{process_type}.1")]
    if sys.stdin is None:
        raise ClientError("there is no standard input")
    poster = Poster(Service(load()), app, parameters)
    with _interruptible() as stop:
        for batch in Batches(Output(1) if tee else None).read(0, stop):
            poster.post(batch)
        if select.select([stop], [], [], 0)[0]:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[int]:
    """A file descriptor that is readable once Ctrl-C was pressed; pressed again, it raises KeyboardInterrupt."""
    stop, wake = os.pipe()
    os.set_blocking(wake, False)

    def first(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is given
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:  # a shell's background jobs are not to hear of it
        signal.signal(signal.SIGINT, first)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, previous)
        os.close(wake)
        os.close(stop)


class Batches:
    """Standard input in pieces that end with a line's end, except for the last and for lines beyond all measure."""

    def __init__(self, echo: Output | None = None) -> None:
        self._echo = echo
        self._held = bytearray()

    def read(self, fd: int, stop: int) -> Iterator[bytes]:
        """Batches of up to about `BATCH` bytes, each at most `LINGER` seconds after its first line.

        Until the end of the input, or `GRACE` seconds after `stop` became readable. Raises ClientError.
        """
        linger = until = math.inf
        while (now := monotonic()) < until:
            wait = min(linger, until) - now
            watched = [fd] if until < math.inf else [fd, stop]
            ready = select.select(watched, [], [], max(0.0, wait) if wait < math.inf else None)[0]
            if stop in ready:
                until = monotonic() + GRACE
            if fd in ready and not self._take(fd):
                break
            if len(self._held) >= BATCH or monotonic() >= linger:
                linger = math.inf
                if batch := self._lines():
                    yield batch
            elif linger == math.inf and b"\n" in self._held:
                linger = monotonic() + LINGER
        if self._held:
            yield bytes(self._held)

    def _take(self, fd: int) -> int:
        """Read once; how much there was, 0 at the end."""
        try:
            data = os.read(fd, _READ)
        except OSError as error:
            raise ClientError(f"can't read standard input: {error.strerror}") from error
        self._held += data
        if self._echo is not None:
            try:
                self._echo.write(data)
            except BrokenPipeError:
                self._echo = None  # Whoever watched has gone; the lines are to be stored all the same.
        return len(data)

    def _lines(self) -> bytes:
        """The whole lines; of a line that grows out of bounds, pieces as the service would cut it."""
        end = self._held.rfind(b"\n") + 1
        if not end and len(self._held) >= LONGEST:
            end = len(self._held) // PIECE * PIECE
        batch = bytes(self._held[:end])
        del self._held[:end]
        return batch


class Poster:
    """Posts batches one after another, each until the service has it."""

    def __init__(self, service: Service, app: str, parameters: Parameters, *, patience: float = PATIENCE) -> None:
        self._service = service
        self._path = app_path(app)
        self._parameters = parameters
        self._patience = patience

    def post(self, batch: bytes) -> None:
        """Return when the batch is durable. Raises Refused, or Unavailable after `patience` seconds."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "Idempotency-Key": str(uuid4())}
        backoff = Backoff()
        deadline = monotonic() + self._patience
        while True:
            try:
                self._service.post(self._path, self._parameters, headers, batch)
            except Unavailable as error:
                delay = backoff.next(error.retry_after)
                if monotonic() + delay > deadline:
                    raise
                tell(f"{error}; trying again in {delay:.1f} s")
                sleep(delay)
            else:
                return
