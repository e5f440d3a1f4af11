"""The whole path through Kafka: CRI files to a tail and into history, and how long a line takes to the terminal.

    python -m benchmarks.kafka_path [--cases 10000x1,100000x1,300000x20,100000x0] [--seconds N] [--files N] [--runs N]

A case is RATExAPPS: lines per second of so many apps together, of which one is tailed whole; RATEx0 is without a tail.
Writer, roles, Kafka, ClickHouse and the client share the machine. For `us` and `mb` see benchmarks/roles.py.
"""

import argparse
import re
import time

from benchmarks.path import Client, write
from benchmarks.report import Report, median
from benchmarks.roles import Costs, Servers, platform, running, servers
from benchmarks.service import make_pod


def tailed(servers: Servers, apps: int, rate: int, seconds: float, files: int) -> dict[str, float]:
    with platform(servers) as made, running(made) as roles:
        logs = [make_pod(roles.data, f"app-{number % apps}", number) for number in range(files)]
        roles.wait_collected(logs, apps)
        client = Client(roles, "app-0")
        client.start()
        costs, begun = Costs(roles.processes), time.perf_counter()
        written = write(rate, seconds, logs)
        ended = time.perf_counter()
        stored = roles.wait_rows(written + files)
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


def unwatched(servers: Servers, rate: int, seconds: float, files: int) -> dict[str, float]:
    """Nobody reads: then `serve` reads nothing either."""
    with platform(servers) as made, running(made) as roles:
        logs = [make_pod(roles.data, f"app-{number}", number) for number in range(files)]
        roles.wait_collected(logs, files)
        costs = Costs(roles.processes)
        written = write(rate, seconds, logs)
        roles.wait_rows(written + files)
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
        for case in asked.cases.split(","):
            rate, apps = map(int, case.split("x"))
            size = (rate, asked.seconds, asked.files)
            runs = [tailed(started, apps, *size) if apps else unwatched(started, *size) for _ in range(asked.runs)]
            report.add(f"{rate} lines/s, " + (f"1 of {apps} apps tailed" if apps else "nothing watched"), median(runs))
    report.write()


if __name__ == "__main__":
    main()
