"""A program that a test starts as a process of its own, as often as it likes, and ends in any way a process can end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.wait import until

LOGSVC = str(Path(sys.executable).parent / "logsvc")


class Program:
    """A context manager that kills, and holds that nothing was said with a traceback.

    stderr of all starts is in `folder/stderr`, stdout in `folder/stdout`. Signals of the terminal don't reach it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object] | None = None) -> None:
        """`settings` by name: `{"bus.segment_bytes": "1MiB"}`."""
        self.folder = folder
        self.settings = dict(settings or {})
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGSVC_")}
        given = {f"LOGSVC_{name.replace('.', '_').upper()}": str(value) for name, value in self.settings.items()}
        return kept | given

    def launch(self) -> None:
        """Start it, and don't wait for anything."""
        assert not self.running, "it runs already"
        with (self.folder / "stderr").open("ab") as errors, (self.folder / "stdout").open("ab") as shown:
            self._began = errors.tell()
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=shown,
                stderr=errors,
                env=self.environment,
                start_new_session=True,
            )
        self.starts += 1

    async def said(self, text: str, deadline: float = 60.0) -> None:
        """Wait until it says this. Raises AssertionError where it ends instead."""

        def looked() -> bool:
            if text not in self.stderr and not self.running:
                raise AssertionError(f"{self.command[1]} ended:\n{self.stderr}")
            return text in self.stderr

        await until(looked, deadline, f"{self.command[1]} says {text!r}")

    @property
    def stderr(self) -> str:
        """What it said since it was started last."""
        with (self.folder / "stderr").open("rb") as file:
            file.seek(self._began)
            return file.read().decode(errors="replace")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """`kill -9`, and collect what is left of it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it stands as it is until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)

    def wait(self, deadline: float = 60.0) -> int:
        """Wait for its end; returns the exit status. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(deadline)

    async def stop(self, deadline: float = 60.0) -> int:
        """Ctrl-C; returns the exit status."""
        self.interrupt()
        return await self.ended(deadline)

    async def ended(self, deadline: float = 60.0) -> int:
        """Wait for its end; returns the exit status."""
        return await asyncio.to_thread(self.wait, deadline)

    async def refused(self, deadline: float = 60.0, *, others_say: bool = False) -> str:
        """Start it where it can't run: check that it ends with status 1 and says one plain line, and return that.

        `others_say`: there may be something before, from the store's engine or of a start that went far.
        """
        self.launch()
        status = await self.ended(deadline)
        said = self.stderr
        assert status == 1, f"status {status}:\n{said}"
        assert "Traceback" not in said
        if others_say:
            said = said[said.index("logsvc: ") :]
        assert said.startswith("logsvc: "), said
        assert said.count("\n") == 1, f"more than one line:\n{said}"
        return said

    def rss(self) -> int:
        """Bytes of memory that it has now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
        said = (self.folder / "stderr").read_text(errors="replace").splitlines() if self.starts else []
        if error is not None:
            own = [line for line in said if line and "PAAS_URL" not in line and "logsvc is ready" not in line]
            sys.stdout.write("\n".join([f"{' '.join(self.command[1:3])} said, in {self.starts} starts:", *own, ""]))
        else:
            assert not [line for line in said if "Traceback" in line], "\n".join(said)
