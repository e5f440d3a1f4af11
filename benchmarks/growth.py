"""How cost grows with the number of apps: the same total rate, spread over more and more apps, one of them watched.

    python -m benchmarks.growth [--apps 10,100,1000,10000] [--rate N] [--seconds N] [--runs N]

A write is of some 20 lines, so each of very many apps is quiet for most of the time. The app that is watched writes at
a rate of its own, the same whatever the number of the others. The tail is complete and in order, and so is the
history of that app and of a sample of the others, or the run fails.
"""

import argparse
import time

from benchmarks.path import Client, writer
from benchmarks.report import Report, cpu_seconds, median, memory
from benchmarks.service import make_pod, running

WATCHED = 50
"""Lines a second of the app that is watched."""
SAMPLE = 20
"""Other apps whose history is counted."""


def measure(apps: int, rate: int, seconds: float) -> dict[str, float]:
    with running() as service:
        logs = [make_pod(service.data, f"app-{number}", 0) for number in range(apps)]
        service.wait_collected(logs, apps + 1)  # with `idle`
        idle = _settled(service.pid)
        client = Client(service, "app-0")
        client.start()
        cpu = cpu_seconds(service.pid)
        with writer(rate - WATCHED, seconds, logs[1:]) as others, writer(WATCHED, seconds, logs[:1]) as watched:
            mine, written = int(watched.communicate()[0]), int(others.communicate()[0])
        ended = time.perf_counter()
        client.expect(mine)
        for number in {0, *range(1, apps, max(1, apps // SAMPLE))}:
            service.wait_stored(f"app-{number}", logs[number].read_bytes().count(b"\n"))
        cpu = cpu_seconds(service.pid) - cpu
        return {
            "lines_per_cpu_s": (mine + written) / cpu,
            "idle_cpu_percent": idle * 100,
            **client.delays(),
            "history_behind_s": time.perf_counter() - ended,
            "memory_mb": memory(service.pid),
        }


def _settled(pid: int) -> float:
    """The share of a core that the service takes once it has nothing left to do (or after a minute)."""
    share = 1.0
    for _ in range(6):
        begun = cpu_seconds(pid)
        time.sleep(10)  # it looks at everything as often
        share = (cpu_seconds(pid) - begun) / 10
        if share < 0.03:
            break
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", default="10,100,1000,10000")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("growth")
    for apps in map(int, asked.apps.split(",")):
        runs = [measure(apps, asked.rate, asked.seconds) for _ in range(asked.runs)]
        report.add(f"{apps} apps, one watched", median(runs))
    report.write()


if __name__ == "__main__":
    main()
