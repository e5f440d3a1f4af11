"""Write what a process says as containerd does for the kubelet: CRI lines in `<n>.log`, rotated by size.

The format is that of containerd's `redirectLogs` (internal/cri/io/logger.go): `<time> <stream> <tag> <message>`, the
time as Go's RFC3339Nano in UTC, a message over 16 KiB in parts tagged `P` and a last one tagged `F`. Two things are
ours. The unfinished line of a process that ended is `F`, where containerd leaves a `P` that nothing follows. And the
platform's own lines stand between the app's, tagged `F:platform`; no app can forge that, for every tag is written here.
"""

import os
import time
from collections.abc import Callable
from operator import add
from pathlib import Path
from typing import Final

PART: Final = 16 * 1024
"""Most bytes of message in one CRI line: containerd's `max_container_log_line_size`."""

PLATFORM_TAG: Final = b"F:platform"

_SECOND: Final = 1_000_000_000
# The last three of the nine decimals, as Go writes them: without the zeros at the end.
_DECIMALS: Final = [(b"%03d" % n).rstrip(b"0") for n in range(1000)]


class CriFramer:
    """Turns what is read from the pipes of one process into CRI lines. Pure: bytes in, bytes out.

    Lines of one read share a look at the clock and are 1 ns apart, so times are unique and rise. They follow the clock
    back only where it was set back by more than a second.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = -1
        self._rest = {"stdout": b"", "stderr": b""}
        self._tails = {
            (stream, tag): [b"%bZ %b %b " % (decimals, stream.encode(), tag) for decimals in _DECIMALS]
            for stream in self._rest
            for tag in (b"F", b"P")
        }

    def feed(self, stream: str, data: bytes) -> bytes:
        """The CRI lines that `data`, read from `stream`, completes. At most 16 KiB of an unfinished line are kept."""
        lines = data.split(b"\n")
        lines[0] = self._rest[stream] + lines[0]
        self._rest[stream] = lines.pop()
        if len(self._rest[stream]) <= PART and (not lines or max(map(len, lines)) <= PART):
            return self._frame(stream, b"F", lines)
        return self._feed_long(stream, lines)

    def _feed_long(self, stream: str, lines: list[bytes]) -> bytes:
        framed = []
        short: list[bytes] = []
        for line in lines:
            if len(line) <= PART:
                short.append(line)
                continue
            parts, last = _cut(line)
            framed += [self._frame(stream, b"F", short), self._frame(stream, b"P", parts)]
            short = [last]
        parts, self._rest[stream] = _cut(self._rest[stream])
        framed += [self._frame(stream, b"F", short), self._frame(stream, b"P", parts)]
        return b"".join(framed)

    def finish(self, stream: str) -> bytes:
        """The unfinished line of `stream` as a full one; nothing where there is none."""
        rest, self._rest[stream] = self._rest[stream], b""
        return self._frame(stream, b"F", [rest] if rest else [])

    def platform(self, message: str) -> bytes:
        """A line of the platform; a newline in it becomes a space."""
        second, nanos = divmod(self._reserve(1), _SECOND)
        text = " ".join(message.encode("utf-8", "replace").decode().splitlines())
        return b"%b%bZ stdout %b %b\n" % (*_time(second, nanos), PLATFORM_TAG, text.encode())

    def _frame(self, stream: str, tag: bytes, messages: list[bytes]) -> bytes:
        if not messages:
            return b""
        tails = self._tails[stream, tag]
        at = self._reserve(len(messages))
        framed = []
        done = 0
        while done < len(messages):
            # Within a microsecond only the last three decimals change, so 1,000 lines have their first 26 bytes in
            # common and are joined in one go.
            second, nanos = divmod(at + done, _SECOND)
            head, decimals = _time(second, nanos)
            if not decimals:
                framed.append(b"%b%b%b\n" % (head, tails[0], messages[done]))
                done += 1
                continue
            first = nanos % 1000
            some = messages[done : done + 1000 - first]
            framed.append(head + (b"\n" + head).join(map(add, tails[first : first + len(some)], some)) + b"\n")
            done += len(some)
        return b"".join(framed)

    def _reserve(self, count: int) -> int:
        now = self._clock()
        first = now if now > self._last or self._last - now > _SECOND else self._last + 1
        self._last = first + count - 1
        return first


def _cut(line: bytes) -> tuple[list[bytes], bytes]:
    """The parts of a line, and its last 1 to 16,384 bytes (none of an empty line)."""
    end = max(0, (len(line) - 1) // PART * PART)
    return [line[at : at + PART] for at in range(0, end, PART)], line[end:]


def _time(second: int, nanos: int) -> tuple[bytes, bytes]:
    """RFC 3339 up to the microsecond, and the decimals after it; both without zeros at the end of the fraction."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    micros, rest = divmod(nanos, 1000)
    if rest:
        return b"%b.%06d" % (whole.encode(), micros), _DECIMALS[rest]
    return (f"{whole}.{micros:06d}".rstrip("0") if micros else whole).encode(), b""


class CriLog:
    """One container's log file, `<n>.log`, appended to in whole batches.

    What a full disk doesn't take stays owed: `flush` then says False, and the caller stops reading the process's pipes
    until it says True. So nothing is lost, and memory holds one batch. `flush` says False as well while more than
    `most_rotated` rotated files wait; whoever deletes them sets `left` and calls `room`. That doesn't hold back the
    last bytes of a process that has ended (`ending`).
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int,
        rotated: Callable[["CriLog"], None],
        most_rotated: int | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Creates the file. `rotated` is called after each rotation, and again at each flush while crowded."""
        self.path = path
        self.framer = CriFramer(clock)
        self.error: OSError | None = None
        self.rotations = 0
        self.left = 0
        self.ending = False
        self.room: Callable[[], None] = lambda: None
        self._rotate_bytes = rotate_bytes
        self._rotated = rotated
        self._most_rotated = most_rotated
        self._clock = clock
        self._stamp = 0
        self._owed = b""
        self._file, self._size = _create(path), 0

    def write(self, data: bytes) -> bool:
        """Append framed lines, and rotate behind them where the file is large enough. Returns `flush()`."""
        self._owed = self._owed + data if self._owed else data
        return self.flush()

    def flush(self) -> bool:
        """Write what is owed; whether there is room for more. An OSError is kept in `error`."""
        self.error = None
        try:
            while self._owed:
                written = os.write(self._file, self._owed)
                self._size += written
                self._owed = self._owed[written:]
            if self._size >= self._rotate_bytes:
                self._rotate()
        except OSError as error:
            self.error = error
        if self.crowded:
            self._rotated(self)
        return not self._owed and (self.ending or not self.crowded)

    @property
    def crowded(self) -> bool:
        """Whether too many rotated files wait."""
        return self._most_rotated is not None and self.left > self._most_rotated

    def _rotate(self) -> None:
        # The kubelet's name has whole seconds. Under a flood it would repeat, so a name is at least a second above the
        # one before: names stay unique, and in the order of the files.
        self._stamp = max(self._stamp + 1, self._clock() // _SECOND)
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._stamp))
        old = self.path.with_name(f"{self.path.name}.{name}")
        self.path.rename(old)
        try:
            new = _create(self.path)
        except OSError:
            old.rename(self.path)
            raise
        os.close(self._file)
        self._file, self._size = new, 0
        self.rotations += 1
        self.left += 1
        self._rotated(self)

    def close(self) -> None:
        os.close(self._file)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
