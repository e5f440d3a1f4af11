"""Runs the `paas` program as a user's shell does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PAAS = str(Path(sys.executable).parent / "paas")


def environment(url: str, **more: str) -> dict[str, str]:
    """The environment of a user with no config file, whose service is at `url`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAAS_", "XDG_"))}
    for name in ("NO_COLOR", "TZ"):
        kept.pop(name, None)
    return kept | {"PAAS_URL": url, "XDG_CONFIG_HOME": "/nonexistent", "TERM": "xterm"} | more


def paas(
    *arguments: str, url: str, stdin: bytes | None = None, timeout: float = 60, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, output in pipes."""
    return subprocess.run(
        [PAAS, *arguments], env=environment(url, **more), input=stdin, capture_output=True, timeout=timeout, check=False
    )


def start(*arguments: str, url: str, **how: Any) -> subprocess.Popen[bytes]:
    """Start it; output in pipes unless `how` says otherwise."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process: subprocess.Popen[bytes] = subprocess.Popen([PAAS, *arguments], env=environment(url), **(streams | how))
    return process
