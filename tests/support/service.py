"""Runs the real `logsvc dev` as a process of its own, as a shell does, and ends it in any way a process can end."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.wait import until

LOGSVC = str(Path(sys.executable).parent / "logsvc")

IDLE = "idle: sleep 100000\n"
"""A Procfile that makes the service collect and writes next to nothing itself."""

_READY = re.compile(r"logsvc is ready at (http://\S+)")


class Service:
    """`logsvc dev` on `folder/data`. Start it as often as you like; it keeps its port. A context manager that kills.

    stderr of all starts is in `folder/stderr`, stdout (what it shows of the app) in `folder/stdout`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        procfile: str | None = IDLE,
        app: str = "demo",
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`procfile` is its text. `settings` by name, `{"bus.segment_bytes": "1MiB"}`; `prefix`: `nsenter …`."""
        self.folder = folder
        self.data = folder / "data"
        self.app = app
        self.port = port
        self.settings = dict(settings or {})
        self.prefix = prefix
        self.starts = 0
        self._procfile = procfile
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> str:
        """The address of the app's lines."""
        return f"{self.url}/v1/apps/{self.app}/logs"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def command(self) -> list[str]:
        command = [*self.prefix, LOGSVC, "dev", "--app", self.app, "--data", str(self.data), "--port", str(self.port)]
        if self._procfile is not None:
            path = self.folder / "Procfile"
            path.write_text(self._procfile)
            command += ["--procfile", str(path)]
        return command

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGSVC_")}
        given = {f"LOGSVC_{name.replace('.', '_').upper()}": str(value) for name, value in self.settings.items()}
        return kept | given

    def launch(self) -> None:
        """Start it, and don't wait for anything."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with (self.folder / "stderr").open("ab") as errors, (self.folder / "stdout").open("ab") as shown:
            self._began = errors.tell()
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=shown, stderr=errors, env=self.environment
            )
        self.starts += 1

    async def start(self, deadline: float = 60.0) -> Self:
        """Start it and wait until it is ready."""
        self.launch()
        await self.ready(deadline)
        return self

    async def ready(self, deadline: float = 60.0) -> None:
        """Wait until it says that it is ready. Raises AssertionError where it ends instead."""
        assert self._process is not None

        def said() -> re.Match[str] | None:
            assert self._process is not None
            found = _READY.search(self.stderr)
            if found is None and self._process.poll() is not None:
                raise AssertionError(f"logsvc ended with {self._process.returncode}:\n{self.stderr}")
            return found

        found = await until(said, deadline, "logsvc is ready")
        assert found is not None
        self.port = int(found[1].rpartition(":")[2])

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

    async def stop(self, deadline: float = 30.0) -> int:
        """Ctrl-C; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return await self.ended(deadline)

    async def ended(self, deadline: float = 30.0) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, deadline)

    async def refused(self, deadline: float = 30.0, *, others_say: bool = False) -> str:
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

    def peak(self) -> int:
        """Most bytes of memory that it had since `forget_peak`, or its start."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
        said = (self.folder / "stderr").read_text(errors="replace").splitlines()
        if error is not None:
            own = [line for line in said if line and "PAAS_URL" not in line and "logsvc is ready" not in line]
            sys.stdout.write("\n".join([f"logsvc said, in {self.starts} starts:", *own, ""]))
        else:
            assert not [line for line in said if "Traceback" in line], "\n".join(said)
