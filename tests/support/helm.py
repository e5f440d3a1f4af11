"""Helm itself, which `make helm` builds, and the chart."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

CHART: Final = Path(__file__).parents[2] / "deploy" / "chart"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logsvc" / "helm"


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it to the end, with `values` in place of those that the chart has."""
    (program,) = _CACHE.glob("*/helm")
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [program, *arguments, *given],
        input=orjson.dumps(values).decode(),
        capture_output=True,
        text=True,
        check=False,
    )
