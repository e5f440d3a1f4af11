"""How many of which process, on which port and in which environment: what a run is, before anything starts."""

import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from logsvc.errors import ConfigError
from logsvc.sources.procfile.parse import Entry

RELEASE: Final = "release"
"""The process type that runs once, before the others."""

_MOST = 100
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How a Procfile is run."""

    pods: Path
    """Folder of the pod folders, as `/var/log/pods` on a node."""
    identities: Path
    """Folder that says whose they are (see identity.py)."""
    tenant: str
    app: str
    scale: Mapping[str, int] = field(default_factory=dict)
    """Processes to run of a type, where it isn't 1."""
    base_port: int = 5000
    """PORT of the first process type; the next one has 100 more. `PORT` in `.env` replaces it."""
    retention: int = 0
    """Retention class of all lines."""
    grace: float = 10.0
    """Seconds from SIGTERM to SIGKILL."""
    backoff_first: float = 1.0
    """Seconds from a crash to the first restart; doubled at each further crash."""
    backoff_most: float = 60.0
    """Most seconds from a crash to a restart."""
    settled: float = 60.0
    """A process that ran for so many seconds starts again at `backoff_first`."""
    rotate_bytes: int = 10 * 1024 * 1024
    """A log file is rotated when it is as large as that."""
    keep_rotated: int = 4
    """Rotated files that are kept, of each restart."""
    keep_restarts: int = 5
    """Restarts of which the logs are kept, the running one included."""

    def __post_init__(self) -> None:
        if _LABEL.fullmatch(self.tenant) is None:
            raise ConfigError(f"a tenant is named like a namespace, not '{self.tenant}'")


@dataclass(frozen=True, slots=True)
class Dyno:
    """One process to run."""

    process: str
    number: int
    command: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.process}.{self.number}"

    @property
    def container(self) -> str:
        """The process type as a Kubernetes name."""
        return re.sub(r"[^a-z0-9]+", "-", self.process.lower()).strip("-") or "process"

    @property
    def pod(self) -> str:
        return f"{self.container}-{self.number}"


def parse_scale(options: Iterable[str]) -> dict[str, int]:
    """`["web=2,worker=1", "clock=0"]` as counts. Raises ConfigError."""
    scale: dict[str, int] = {}
    for option in options:
        for part in option.split(","):
            match = re.fullmatch(r"([A-Za-z0-9_-]+)=(\d{1,3})", part.strip(), re.ASCII)
            if match is None:
                raise ConfigError(f"a scale looks like 'web=2', not '{part.strip()}'")
            scale[match[1]] = int(match[2])
    return scale


def port_is_free(port: int) -> bool:
    """Whether nothing listens on a TCP port, on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def plan(
    entries: Sequence[Entry],
    scale: Mapping[str, int],
    base_port: int,
    is_free: Callable[[int], bool] = port_is_free,
) -> tuple[Dyno | None, list[Dyno]]:
    """The release step, and the processes in the order of the Procfile.

    PORT is foreman's, `base + 100 * type + number - 1`, the release step not counted; where something listens there,
    the next port that is free. Raises ConfigError for a scale that doesn't fit the Procfile, and where ports run out.
    """
    release = next((Dyno(RELEASE, 1, entry.command, base_port) for entry in entries if entry.name == RELEASE), None)
    running = [entry for entry in entries if entry.name != RELEASE]
    for name, count in scale.items():
        if name not in {entry.name for entry in running}:
            raise ConfigError(f"can't scale '{name}': the Procfile doesn't run it")
        if not 0 <= count <= _MOST:
            raise ConfigError(f"can't scale '{name}' to {count}: at most {_MOST}")
    dynos = []
    taken: set[int] = set()
    for index, entry in enumerate(running):
        for number in range(1, scale.get(entry.name, 1) + 1):
            wanted = base_port + 100 * index + number - 1
            port = next((port for port in range(wanted, 65536) if port not in taken and is_free(port)), None)
            if port is None:
                raise ConfigError(f"no port is free from {wanted} on for {entry.name}.{number}")
            taken.add(port)
            dynos.append(Dyno(entry.name, number, entry.command, port))
    return release, dynos


def base_port(variables: Mapping[str, str], default: int) -> int:
    """`PORT` of `.env`, else `default`. Raises ConfigError."""
    text = variables.get("PORT", str(default))
    if re.fullmatch(r"\d{1,5}", text, re.ASCII) is None or not 1 <= int(text) <= 65535:
        raise ConfigError("PORT in .env is no port number")
    return int(text)


def environment(
    dyno: Dyno, own: Mapping[str, str], variables: Mapping[str, str], web_port: int | None
) -> dict[str, str]:
    """What a process sees: `own` environment without `LOGSVC_` settings (they hold secrets), then `.env`, then ours.

    Ours are PORT, DYNO, `WEB_URL` (where web.1 listens, so that others of the app can ask it), a PATH on which
    `python` is the interpreter that runs logsvc, and PYTHONUNBUFFERED, for a pipe is no terminal.
    """
    seen = {name: value for name, value in own.items() if not name.startswith("LOGSVC_")}
    seen["PYTHONUNBUFFERED"] = "1"
    seen["PATH"] = f"{Path(sys.executable).parent}:{seen.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    if web_port is not None:
        seen["WEB_URL"] = f"http://127.0.0.1:{web_port}"
    return seen | dict(variables) | {"PORT": str(dyno.port), "DYNO": dyno.name}
