"""The store role: what is on Kafka when it starts, to rows in ClickHouse.

    python -m benchmarks.kafka_store [--lines N] [--runs N]

Chunks of 100 lines of 1,000 apps. For `us` and `mb` see benchmarks/roles.py.
"""

import argparse

import uvloop

from benchmarks.kafka import fill
from benchmarks.report import Report, median
from benchmarks.roles import Costs, Servers, platform, running, servers
from logsvc.bus.kafka import KafkaBus
from tests.support.roles import Platform


async def put(platform: Platform, lines: int) -> None:
    async with KafkaBus.open(platform.bus) as bus:
        await fill(bus, lines)


def measure(servers: Servers, lines: int) -> dict[str, float]:
    with platform(servers) as made:
        uvloop.run(put(made, lines))
        with running(made, ["store"]) as roles:
            costs = Costs(roles.processes)
            figures = {"lines_per_s": lines / roles.wait_rows(lines), **costs.figures(lines)}
            roles.lines_by_app(lines)
            return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("kafka_store")
    with servers() as started:
        report.add("from Kafka to rows", median([measure(started, asked.lines) for _ in range(asked.runs)]))
    report.write()


if __name__ == "__main__":
    main()
