"""What came of a run: the times of each fault, and the count of every line."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from tests.chaos.kafka.form import APPS, DRAINED, Form
from tests.support import Tally


@dataclass(slots=True)
class Trial:
    """One fault, made once. Times are seconds."""

    fault: str
    target: float | None
    """Within which every tail should be live again."""
    at: float
    """From the begin of the run."""
    took: float
    latency: float
    """From the write of a line until a client had it: the longest of all lines and tails."""
    recovery: float
    """From the kill of a role, or the end of an outage (Kafka takes lines again), until every tail had a line that was
    written after it."""
    last: str
    """Which of them was the last."""
    drains: float
    """From then until every drain had one."""
    of_drains: bool
    """Whether the target is one for drains."""

    def __str__(self) -> str:
        return (
            f"{self.fault}: {self.took:.1f} s, worst latency {self.latency:.2f} s, "
            f"live again in {self.recovery:.2f} s ({self.last}), drains in {self.drains:.2f} s"
        )

    @property
    def is_late(self) -> bool:
        return self.target is not None and (self.drains if self.of_drains else self.recovery) > self.target


@dataclass(slots=True)
class Count:
    """What is wrong with lines, in one place where they are read."""

    lines: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0

    def add(self, tally: Tally, written: Mapping[str, int], *, ordered: bool) -> None:
        self.lines += tally.lines
        self.lost += tally.lost(written)
        self.doubled += tally.doubled
        self.misordered += tally.misordered if ordered else 0

    def __str__(self) -> str:
        return f"{self.lines:,} lines: lost {self.lost}, doubled {self.doubled}, misordered {self.misordered}"


@dataclass(slots=True)
class ChaosReport:
    """A run, as a table and as JSON."""

    seed: int
    form: Form
    trials: list[Trial] = field(default_factory=list)
    written: int = 0
    tails: int = 0
    connections: int = 0
    repeated: int = 0
    """Frames that drains sent again, the same under the same id."""
    counts: dict[str, Count] = field(default_factory=dict)
    """By where lines were read."""
    wrong: list[str] = field(default_factory=list)
    """What should not be, in words."""

    def count(self, place: str, app: str, tally: Tally, written: Mapping[str, int], *, ordered: bool = True) -> None:
        """Take what came of an app's lines somewhere."""
        self.counts.setdefault(place, Count()).add(tally, written, ordered=ordered)
        try:
            tally.check(written, ordered=ordered)
        except AssertionError as error:
            self.wrong.append(f"{place}, {app}: {error}")

    def __str__(self) -> str:
        form = self.form
        load = f"{APPS} apps, {form.rate:,.0f} lines/s, {form.brokers} brokers, {self.tails} tails"
        again = f"{self.repeated:,} frames of drains came again"
        return "\n  ".join(
            [
                f"{load}, {len(DRAINED)} drains",
                f"{'fault':<34} {'times':>5} {'took':>7} {'worst delay':>14} {'live again':>11} {'drains':>9}  target",
                *self._rows(),
                f"{self.written:,} lines written; {self.connections:,} connections of tails; {again}",
                *(f"{place}: {count}" for place, count in self.counts.items()),
                *self.wrong,
                f"again with CHAOS_SEED={self.seed} make chaos MINUTES={form.minutes:g}",
            ]
        )

    def _rows(self) -> list[str]:
        rows = []
        for fault in dict.fromkeys(trial.fault for trial in self.trials):
            trials = [trial for trial in self.trials if trial.fault == fault]
            took, latency, recovery, drains = (
                max(getattr(trial, name) for trial in trials) for name in ("took", "latency", "recovery", "drains")
            )
            target = trials[0].target
            verdict = f"{target:5.0f} s" if target else ""
            missed = f"  missed in {late}" if (late := sum(trial.is_late for trial in trials)) else ""
            rows.append(
                f"{fault:<34} {len(trials):>5} {took:>5.1f} s {latency:>12.2f} s {recovery:>9.2f} s "
                f"{drains:>7.2f} s {verdict}{missed}"
            )
        return rows

    def write(self) -> None:
        """As JSON into the file that CHAOS_JSON names."""
        if path := os.environ.get("CHAOS_JSON"):
            Path(path).write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
