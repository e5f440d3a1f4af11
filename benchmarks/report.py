"""What all benchmarks share: medians of several runs, a table on the screen, JSON in a file, CPU of a process."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

RESULTS = Path(".cache/benchmarks")
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int | str = "self") -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_memory(pid: int | str = "self") -> float:
    """Most resident memory of a process so far, MB."""
    return _status(pid, "VmHWM") / 1024


def memory(pid: int | str = "self") -> float:
    """Resident memory of a process now, MB."""
    return _status(pid, "VmRSS") / 1024


def _status(pid: int | str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process and wall seconds that `work` takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def median(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def repeated(runs: int, case: Callable[[Path], Coroutine[None, None, Mapping[str, float]]]) -> dict[str, float]:
    """The median of each figure over runs of a case, each in a folder of its own."""

    def run() -> Mapping[str, float]:
        with TemporaryDirectory() as folder:
            return uvloop.run(case(Path(folder)))

    return median([run() for _ in range(runs)])


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Report:
    """Rows of one benchmark, printed as they come and written at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[str, dict[str, float]] = {}

    def add(self, case: str, figures: Mapping[str, float]) -> None:
        self.rows[case] = dict(figures)
        shown = "  ".join(f"{name} {_short(value)}" for name, value in figures.items())
        print(f"{self.name:<10} {case:<34} {shown}", flush=True)

    def write(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "arguments": sys.argv[1:]}
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps({"benchmark": self.name, **machine, "rows": self.rows}, indent=2) + "\n")


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
