"""A disk of a few MB that can be filled: a tmpfs in a mount namespace of its own.

It needs root, or user namespaces that a user may make. It goes with its process: nothing is left mounted.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest


class SmallDisk:
    """Mounted on `folder`, for processes started with `prefix`. A context manager."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._size = folder, size

    def __enter__(self) -> Self:
        flags = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
        mount = f'mount -t tmpfs -o size={self._size} none "$0" && echo mounted && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", mount, str(self._folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.__exit__(None, None, None)
            pytest.fail("no small disk can be mounted here: run as root, or where user namespaces are allowed")
        return self

    @property
    def prefix(self) -> tuple[str, ...]:
        flags = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--preserve-credentials"]
        return ("nsenter", "--target", str(self._holder.pid), *flags)

    @property
    def inside(self) -> Path:
        """The mounted folder, seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def free(self) -> int:
        return shutil.disk_usage(self.inside).free

    def fill(self, leave: int = 0) -> None:
        """Take all space but `leave` bytes, whoever else takes some of it meanwhile."""
        with (self.inside / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while (size := self.free() - leave) > 0:
                file.write(b"\0" * size)

    def empty(self) -> None:
        (self.inside / "filler").unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._holder.stdin, self._holder.stdout):
            assert pipe is not None
            pipe.close()
        self._holder.wait(10)
