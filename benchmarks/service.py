"""`logsvc dev` in a process of its own, in a new folder, and writers that play the kubelet for it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from uuid import UUID

from logsvc.api.context import LOCAL_TENANT
from logsvc.sources.procfile.identity import Identity
from tests.support.tokens import AUDIENCE, Issuer

HELLO = b"2026-01-01T00:00:00Z stdout F hello\n"
_RUN = time.time_ns()
"""All pods of one benchmark are of one run, or the service would tidy older ones away."""


@dataclass(frozen=True)
class Service:
    """A running service. `idle` is a Procfile process, for collection needs one."""

    url: str
    pid: int
    data: Path

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}") as answer:
            return answer.read()

    def wait_collected(self, logs: Sequence[Path], apps: int) -> None:
        """Write a first line to each new log, and wait until so many apps are known."""
        for log in logs:
            log.write_bytes(HELLO)
        while self.get("/v1/apps").count(b'"app"') < apps:
            time.sleep(0.1)

    def wait_stored(self, app: str, lines: int, seconds: float = 120) -> float:
        """Wait until history counts `lines` lines of an app; returns the seconds it took."""
        begun = time.perf_counter()
        while f'"{app}"'.encode() not in self.get("/v1/apps"):
            time.sleep(0.05)
        while time.perf_counter() - begun < seconds:
            buckets = json.loads(self.get(f"/v1/apps/{app}/volume?step=1h"))["buckets"]
            count = sum(bucket["lines"] for bucket in buckets if bucket["process"] == "web")
            if count >= lines:
                assert count == lines, f"{count - lines} lines are doubled"
                return time.perf_counter() - begun
            time.sleep(0.05)
        raise TimeoutError(f"{lines - count} of {lines} lines are missing in history")


@contextmanager
def running(*, settings: dict[str, str] | None = None) -> Iterator[Service]:
    with TemporaryDirectory(prefix="logsvc-bench-") as folder:
        data = Path(folder) / "data"
        procfile = Path(folder) / "Procfile"
        procfile.write_text("idle: exec sleep 1000000\n")
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "logsvc", "dev", "--procfile", str(procfile), "--app", "idle"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--data", str(data), "--port", str(port)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **(settings or {})},
            )
        try:
            service = Service(f"http://127.0.0.1:{port}", process.pid, data)
            _wait_ready(service, process)
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            lines = (Path(folder) / "log").read_text().splitlines()
            sys.stderr.writelines(f"    {line}\n" for line in lines if " warning " in line or " error " in line)


@contextmanager
def guarded(settings: dict[str, str] | None = None) -> Iterator[tuple[Service, Issuer]]:
    """A running service that asks for tokens, and who issues them."""
    with TemporaryDirectory() as folder:
        issuer = Issuer()
        jwks = Path(folder) / "jwks"
        jwks.write_bytes(issuer.jwks())
        auth = {"LOGSVC_AUTH_JWKS": str(jwks), "LOGSVC_AUTH_AUDIENCE": AUDIENCE}
        with running(settings=auth | (settings or {})) as service:
            yield service, issuer


def _wait_ready(service: Service, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            service.get("/readyz")
        except OSError:
            assert process.poll() is None, "logsvc dev did not start"
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("logsvc dev is not ready after 30 s")


def make_pod(data: Path, app: str, number: int) -> Path:
    """The log file of a new pod of an app; its identity is known before the file is there."""
    uid = str(UUID(int=abs(hash((app, number)))))
    identity = Identity(uid, f"{app}-{number}", "web", LOCAL_TENANT, app, "web", f"web.{number}", 0, _RUN)
    identity.write(data / "identity")
    folder = data / "pods" / str(identity.folder) / "web"
    folder.mkdir(parents=True)
    return folder / "0.log"
