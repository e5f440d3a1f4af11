"""The whole path through Kafka: CRI files to a tail and into history, and how long a line takes to the terminal.

    python -m benchmarks.kafka_path [--cases 10000x1,100000x1,300000x20,100000x0] [--seconds N] [--files N] [--runs N]

A case is RATExAPPS: lines per second of so many apps together, of which one is tailed whole; RATEx0 is without a tail.
In RATExAPPS:TAILED the tailed app writes TAILED lines of them, as in 300000x20:100000; else each writes as many as any.
With many `--seconds` it shows whether tail and history keep up: what they are behind by in the end doesn't grow then.
Writer, roles, Kafka, ClickHouse and the client share the machine. For `us` and `mb` see benchmarks/roles.py.
"""

import argparse
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.path import Client, write, writer
from benchmarks.report import Report, median
from benchmarks.roles import Costs, Servers, platform, running, servers
from benchmarks.service import make_pod


class Case(NamedTuple):
    """Lines a second of so many apps together; of those, what the tailed one writes, 0 for its equal share."""

    rate: int
    apps: int
    tailed: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        size, _, tailed = text.partition(":")
        rate, _, apps = size.partition("x")
        return cls(int(rate), int(apps), int(tailed or 0))

    def write(self, seconds: float, logs: Sequence[Path]) -> int:
        """Have lines written, the tailed app's to every so many-th file; how many."""
        if not self.tailed:
            return write(self.rate, seconds, logs)
        own, others = logs[:: self.apps], [log for number, log in enumerate(logs) if number % self.apps]
        with ExitStack() as stack:
            rates = ((self.tailed, own), (self.rate - self.tailed, others))
            processes = [stack.enter_context(writer(rate, seconds, files)) for rate, files in rates]
            return sum(int(process.communicate()[0]) for process in processes)

    def __str__(self) -> str:
        what = f"1 of {self.apps} apps tailed" if self.apps else "nothing watched"
        return f"{self.rate} lines/s, {what}" + (f", with {self.tailed} of them" if self.tailed else "")


def tailed(servers: Servers, case: Case, seconds: float, files: int) -> dict[str, float]:
    apps = case.apps
    with platform(servers) as made, running(made) as roles:
        logs = [make_pod(roles.data, f"app-{number % apps}", number) for number in range(files)]
        roles.wait_collected(logs, apps)
        client = Client(roles, "app-0")
        client.start()
        costs, begun = Costs(roles.processes), time.perf_counter()
        written = case.write(seconds, logs)
        ended = time.perf_counter()
        stored = roles.wait_rows(written + files, 120 + seconds)
        cost = costs.figures(written)
        lines = roles.lines_by_app(written + files)["app-0"]
        client.expect(lines - files // apps)
        roles.wait_stored("app-0", lines)
        return {
            "lines_per_s": written / (client.last - begun),
            **client.delays(),
            "tail_behind_s": client.last - ended,
            "stored_behind_s": stored,
            **cost,
        }


def unwatched(servers: Servers, case: Case, seconds: float, files: int) -> dict[str, float]:
    """Nobody reads: then `serve` reads nothing either."""
    with platform(servers) as made, running(made) as roles:
        logs = [make_pod(roles.data, f"app-{number}", number) for number in range(files)]
        roles.wait_collected(logs, files)
        costs = Costs(roles.processes)
        written = case.write(seconds, logs)
        roles.wait_rows(written + files, 120 + seconds)
        cost = costs.figures(written)
        roles.lines_by_app(written + files)
        read = re.search(rb"^logsvc_window_chunks_total (\S+)$", roles.get("/metrics"), re.MULTILINE)
        assert read is not None
        return {"chunks_read": float(read[1]), **cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="10000x1,100000x1,300000x20,100000x0")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("kafka_path")
    with servers() as started:
        for case in map(Case.parse, asked.cases.split(",")):
            measure = tailed if case.apps else unwatched
            report.add(
                str(case), median([measure(started, case, asked.seconds, asked.files) for _ in range(asked.runs)])
            )
    report.write()


if __name__ == "__main__":
    main()
