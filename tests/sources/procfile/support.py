"""Run a Procfile in a test, and read back what its files hold."""

import asyncio
import contextlib
import gzip
import os
import re
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from logsvc.sources.procfile import ProcessEvent, ProcfileRunner, RunnerSettings
from logsvc.sources.procfile.identity import read_identity
from logsvc.sources.procfile.parse import parse_procfile
from logsvc.sources.procfile.rotation import rotated_files
from tests.support import until


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: the kernel refuses, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open `count` more files or pipe ends."""
    free = [os.dup(0) for _ in range(count + 1)]
    for fd in free:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Run:
    """A runner at work in a folder, and everything that it said."""

    def __init__(
        self,
        folder: Path,
        procfile: str,
        variables: dict[str, str] | None = None,
        directory: Path | None = None,
        collected: Callable[[Path], bool] | None = None,
        **settings,
    ) -> None:
        self.pods, self.identities = folder / "pods", folder / "identity"
        self.said: list[tuple[str, str]] = []
        quick = {"backoff_first": 0.01, "backoff_most": 0.04, "grace": 10.0, "tenant": "default", "app": "demo"}
        self.runner = ProcfileRunner(
            parse_procfile(procfile),
            RunnerSettings(pods=self.pods, identities=self.identities, **(quick | settings)),
            directory=directory or folder,
            variables=variables,
            on_event=self._heard,
            collected=collected,
        )
        self.task: asyncio.Task[int | None]

    def _heard(self, event: ProcessEvent) -> None:
        self.said.append((event.dyno, event.message))

    async def heard(self, dyno: str, message: str, times: int = 1) -> None:
        """Wait until the platform said `message` of a dyno so many times."""
        await until(lambda: self.said.count((dyno, message)) >= times, what=f"{dyno}: {message}; heard {self.said}")

    async def wrote(self, dyno: str, text: bytes) -> None:
        """Wait until the newest file of the dyno's first start, or the one before, holds `text`."""

        def is_there() -> bool:
            with contextlib.suppress(FileNotFoundError):
                log = self.folder(dyno) / "0.log"
                return any(text in path.read_bytes() for path in [*rotated_files(log)[-1:], log])
            return False

        await until(is_there, what=f"{text!r} of {dyno}")

    def folder(self, dyno: str) -> Path:
        """The folder of a dyno's log files. Raises FileNotFoundError where it isn't there yet."""
        found = []
        for path in self.identities.glob("*.json"):
            identity = read_identity(self.identities, path.stem)
            if identity is not None and identity.dyno == dyno:
                found.append(self.pods / str(identity.folder) / identity.container)
        if not found or not found[0].exists():
            raise FileNotFoundError(dyno)
        assert len(found) == 1
        return found[0]

    def raw(self, dyno: str, restart: int = 0) -> bytes:
        """All files of one restart in order, joined, gzip'd ones unpacked; nothing may be rotated meanwhile."""
        log = self.folder(dyno) / f"{restart}.log"
        files = [*rotated_files(log), log] if log.exists() else []
        return b"".join(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in files)

    def lines(self, dyno: str, restart: int = 0) -> list[tuple[str, bytes]]:
        """(`stdout`, `stderr` or `platform`, message) in the order of the file, parts joined."""
        lines, parts = [], {b"stdout": b"", b"stderr": b""}
        for line in re.findall(rb"[^\n]*\n", self.raw(dyno, restart)):
            _, stream, tag, message = line[:-1].split(b" ", 3)
            if tag == b"P":
                parts[stream] += message
                continue
            source = stream if tag == b"F" else b"platform"
            lines.append((source.decode(), (parts[stream] if tag == b"F" else b"") + message))
            if tag == b"F":
                parts[stream] = b""
        return lines


@contextlib.asynccontextmanager
async def running(folder: Path, procfile: str, **settings) -> AsyncIterator[Run]:
    """A Procfile being run; stopped at the end, where it hasn't been."""
    run = Run(folder, procfile, **settings)
    async with asyncio.TaskGroup() as tasks:
        run.task = tasks.create_task(run.runner.run())
        try:
            yield run
        finally:
            await run.runner.stop()
