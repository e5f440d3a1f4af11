"""Containers that outlive the service: a process that writes numbered lines to CRI files, and rotates as a kubelet.

    python -m tests.chaos.writer <data folder> <settings as JSON, a list with one for each app>

Each writer is one pod with an identity as a Procfile's dyno has. The files are renamed when they are large enough; all
rotated ones but the newest are compressed. There are at most `keep` of them, where what was in the oldest arrived,
and a line behind it too: stdin says so, `<app> <writer> <next seq>`. It writes until stdin ends, or all writers have
their lines, then prints one line of JSON, of each app: how many lines each writer wrote, files rotated, compressed,
deleted.
"""

import gzip
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from logsvc.sources.procfile.identity import Identity
from tests.support import cri_line, cri_parts, numbered

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Writing:
    """What is written, and how."""

    writers: tuple[str, ...] = ("a", "b")
    """Names, each that of a dyno as well: `web.1`."""
    app: str = "demo"
    rate: float = 1000
    """Lines a second of each writer."""
    lines: int = 0
    """Lines after which a writer ends; 0: it goes on."""
    rotate: int = 256 * 1024
    keep: int = 2
    pad: int = 60
    """Bytes of text in each line."""
    long_every: int = 997
    """Each so many lines is one of 40 KiB, in three parts; 0: none."""
    every: float = 0.004
    """Seconds from one write to the next."""


Told = Counter[tuple[str, str]]
"""The next number to arrive, by app and writer."""


class Pod:
    """One container's files."""

    def __init__(self, data: Path, name: str, writing: Writing, told: Told) -> None:
        self.name, self.seq = name, 0
        self._writing, self._told = writing, told
        self._text = b"x" * writing.pad
        uid = str(uuid.uuid4())
        # The newest run of all, so that no start of the service takes it for an old one to be removed.
        identity = Identity(uid, name, "main", "local", writing.app, name.partition(".")[0], name, 0, 2**62)
        identity.write(data / "identity")
        folder = data / "pods" / str(identity.folder) / "main"
        folder.mkdir(parents=True)
        self._path = folder / "0.log"
        self._file = self._path.open("ab", buffering=0)
        self._size = self._stamp = 0
        self._rotated: list[tuple[Path, int]] = []
        self.did: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        return 0 < self._writing.lines <= self.seq

    def catch_up(self, seconds: float) -> None:
        """Write what is due so long after the begin."""
        due = int(seconds * self._writing.rate)
        # Behind by much, as on a machine that stood still, it doesn't write all at once.
        count = min(min(due, self._writing.lines or due) - self.seq, 2000)
        if count > 0:
            self._write(count)

    def _write(self, count: int) -> None:
        now = time.time_ns()
        data = b"".join(self._line(self.seq + n, now + n) for n in range(count))
        # In two pieces, at any byte: a reader sees unfinished lines.
        cut = (self.seq * 7919) % max(1, len(data))
        for piece in (data[:cut], data[cut:]):
            self._size += self._file.write(piece)
        self.seq += count
        if self._size >= self._writing.rotate:
            self.rotate()

    def _line(self, seq: int, now: int) -> bytes:
        stream = "stderr" if seq % 7 == 0 else "stdout"
        every = self._writing.long_every
        if every and seq % every == every - 1:
            return cri_parts(now, stream, numbered(self.name, seq, b"long " * 8192))
        return cri_line(now, stream, numbered(self.name, seq, self._text))

    def rotate(self) -> Path:
        """Begin a new file; the one before, under its new name."""
        self._stamp = max(self._stamp + 1, int(time.time()))
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._stamp))
        old = self._path.with_name(f"0.log.{name}")
        self._path.rename(old)
        self._file.close()
        self._file, self._size = self._path.open("ab", buffering=0), 0
        self.did["rotated"] += 1
        if self._rotated and self._rotated[-1][0].suffix != ".gz" and self._rotated[-1][0].exists():
            self._rotated[-1] = (self._compress(self._rotated[-1][0]), self._rotated[-1][1])
        self._rotated.append((old, self.seq))
        arrived = self._told[self._writing.app, self.name]
        while len(self._rotated) > self._writing.keep and arrived > self._rotated[0][1]:
            self._rotated.pop(0)[0].unlink()
            self.did["deleted"] += 1
        return old

    def close(self) -> None:
        self._file.close()

    def _compress(self, path: Path) -> Path:
        packed, torn = Path(f"{path}.gz"), Path(f"{path}.tmp")
        with path.open("rb") as plain, gzip.open(torn, "wb", compresslevel=1) as file:
            shutil.copyfileobj(plain, file)
        torn.rename(packed)
        path.unlink()
        self.did["compressed"] += 1
        return packed


def main() -> None:
    data, writings = Path(sys.argv[1]), [Writing(**each) for each in orjson.loads(sys.argv[2])]
    told: Told = Counter()
    over = threading.Event()

    def listen() -> None:
        for line in sys.stdin.buffer:
            app, name, seq = line.decode().split()
            told[app, name] = int(seq)
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    pods = [[Pod(data, name, writing, told) for name in writing.writers] for writing in writings]
    begun = time.monotonic()
    while not over.wait(min(writing.every for writing in writings)):
        now = time.monotonic() - begun
        for pod in chain.from_iterable(pods):
            pod.catch_up(now)
        if all(pod.is_over for pod in chain.from_iterable(pods)):
            break
    os.write(1, orjson.dumps([asdict(_report(each)) for each in pods]) + b"\n")
    os._exit(0)  # the thread that listens may hold stdin, which an end in order would wait for


def _report(pods: list[Pod]) -> "Report":
    did = sum((pod.did for pod in pods), Counter[str]())
    return Report({pod.name: pod.seq for pod in pods}, did["rotated"], did["compressed"], did["deleted"])


@dataclass
class Report:
    """What was written in the end."""

    written: dict[str, int] = field(default_factory=dict)
    rotated: int = 0
    compressed: int = 0
    deleted: int = 0

    @property
    def lines(self) -> int:
        return sum(self.written.values())


class _Process:
    """The program above. A context manager that ends it."""

    def __init__(self, data: Path, writings: Sequence[Writing]) -> None:
        for folder in ("pods", "identity"):
            (data / folder).mkdir(parents=True, exist_ok=True)
        self.writings = writings
        given = orjson.dumps([asdict(writing) for writing in writings]).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.writer", str(data), given],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def _tell(self, app: str, name: str, seq: int) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has written all its lines
            self._process.stdin.write(b"%b %b %d\n" % (app.encode(), name.encode(), seq))

    def _finish(self) -> list[Report]:
        out, _ = self._process.communicate(timeout=60)
        return [Report(**each) for each in orjson.loads(out)]

    def _wait(self) -> list[Report]:
        assert self._process.stdout is not None
        return [Report(**each) for each in orjson.loads(self._process.stdout.readline())]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        self._process.wait()


class Writer(_Process):
    """Writers of one app, for a test."""

    def __init__(self, data: Path, writing: Writing) -> None:
        super().__init__(data, (writing,))
        self.names = writing.writers
        self._app = writing.app

    def tell(self, name: str, seq: int) -> None:
        """Everything below `seq` arrived: it may be deleted."""
        self._tell(self._app, name, seq)

    def finish(self) -> Report:
        """Let it stop writing. Blocks for a moment."""
        return self._finish()[0]

    def wait(self) -> Report:
        """Wait until it has written its lines. Blocks: for a thread."""
        return self._wait()[0]


class Node(_Process):
    """Writers of many apps, for a test."""

    def tell(self, app: str, name: str, seq: int) -> None:
        """Everything below `seq` arrived: it may be deleted."""
        self._tell(app, name, seq)

    def finish(self) -> dict[str, dict[str, int]]:
        """Let it stop writing; the lines of each app's writers. Blocks for a moment."""
        reports = zip(self.writings, self._finish(), strict=True)
        return {writing.app: report.written for writing, report in reports}


if __name__ == "__main__":
    main()
