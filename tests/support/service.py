"""Runs the real `logsvc dev` as a process of its own, as a shell does."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.program import LOGSVC, Program
from tests.support.wait import until

IDLE = "idle: sleep 100000\n"
"""A Procfile that makes the service collect and writes next to nothing itself."""

_READY = re.compile(r"logsvc is ready at (http://\S+)")


class Service(Program):
    """`logsvc dev` on `folder/data`. Start it as often as you like; it keeps its port. stdout is what it shows."""

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
        super().__init__(folder, settings)
        self.data = folder / "data"
        self.app = app
        self.port = port
        self.prefix = prefix
        self._procfile = procfile

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> str:
        """The address of the app's lines."""
        return f"{self.url}/v1/apps/{self.app}/logs"

    @property
    def command(self) -> list[str]:
        command = [*self.prefix, LOGSVC, "dev", "--app", self.app, "--data", str(self.data), "--port", str(self.port)]
        if self._procfile is not None:
            path = self.folder / "Procfile"
            path.write_text(self._procfile)
            command += ["--procfile", str(path)]
        return command

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

    def peak(self) -> int:
        """Most bytes of memory that it had since `forget_peak`, or its start."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
