"""A ClickHouse that tests start, kill and start again on the same data and port: see clickhouse_http.py.

`LOGSVC_TEST_CLICKHOUSE=http://user:password@host:8123` names a real server, for the tests that can use one.
"""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.ports import free_port
from tests.support.wait import eventually, until

SERVER = os.environ.get("LOGSVC_TEST_CLICKHOUSE", "")
"""Address of a real server, or empty."""


class ClickHouse:
    """The engine behind HTTP, as a process of its own. A context manager, plain or async, that starts it,
    and kills it in the end."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        certificate: tuple[Path, Path] | None = None,
        can_be_slow: bool = False,
        address: str = "127.0.0.1",
        backups: Path | None = None,
    ) -> None:
        """`certificate` and its key make it speak TLS; `can_be_slow` is for `slow_disk`; it listens at `address`.

        `backups` is the folder that BACKUP and RESTORE may use.
        """
        self.folder = folder
        self._can_be_slow = can_be_slow
        self._certificate = certificate
        self._backups = backups
        self.password = password
        self.address = address
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._certificate else ''}://{self.address}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start it, and don't wait for anything."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        disk = (sys.executable, "-m", "tests.support.slow_disk", data, self._delay) if self._can_be_slow else ()
        place = f"{data}?backups.allowed_path={self._backups}" if self._backups else str(data)
        with (self.folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [
                    *disk,
                    *(sys.executable, "-m", "tests.support.clickhouse_http"),
                    *(place, f"{self.address}:{self.port}", self.password),
                    *(self._certificate or ()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "stderr").read_text()[-2000:]
        try:
            context = ssl._create_unverified_context() if self._certificate else None
            with urlopen(f"{self.url}/ping", timeout=5, context=context) as answer:
                return answer.read() == b"Ok.\n"
        except (URLError, OSError):
            return False

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        await until(self.answers, 180)

    def kill(self) -> None:
        """`kill -9`, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def slow_disk(self, delay: float) -> Iterator[None]:
        """Each write to its files, and each sync, takes so many seconds, one after the other."""
        assert self._can_be_slow
        self._delay.with_suffix(".new").write_text(str(delay))
        self._delay.with_suffix(".new").rename(self._delay)
        try:
            yield
        finally:
            self._delay.unlink()

    @property
    def _delay(self) -> Path:
        return self.folder / "delay"

    def freeze(self) -> None:
        """SIGSTOP: connections open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.launch()
        try:
            eventually(self.answers, 180)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
