"""How cost grows with the number of apps: the same total rate, spread over more and more apps, one of them watched.

python -m benchmarks.growth [--apps 10,100,1000,10000] [--rate N] [--seconds N]
"""

import argparse
import time

from benchmarks.path import Client, write
from benchmarks.report import Report, cpu_seconds, memory
from benchmarks.service import make_pod, running


def measure(apps: int, rate: int, seconds: float) -> dict[str, float]:
    with running() as service:
        logs = [make_pod(service.data, f"app-{number}", 0) for number in range(apps)]
        service.wait_collected(logs, apps + 1)
        idle = _settled(service.pid)
        client = Client(service, "app-0")
        client.start()
        cpu = cpu_seconds(service.pid)
        written = write(rate, seconds, logs)
        time.sleep(2)
        cpu = cpu_seconds(service.pid) - cpu
        assert not client.faults
        return {
            "lines_per_cpu_s": written / cpu,
            "idle_cpu_percent": idle * 100,
            **client.delays(),
            "memory_mb": memory(service.pid),
        }


def _settled(pid: int) -> float:
    """The share of a core that the service takes once it has nothing left to do (or after 40 s)."""
    share = 1.0
    for _ in range(8):
        begun = cpu_seconds(pid)
        time.sleep(5)
        share = (cpu_seconds(pid) - begun) / 5
        if share < 0.05:
            break
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", default="10,100,1000,10000")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    report = Report("growth")
    for apps in map(int, asked.apps.split(",")):
        report.add(f"{apps} apps, one watched", measure(apps, asked.rate, asked.seconds))
    report.write()


if __name__ == "__main__":
    main()
