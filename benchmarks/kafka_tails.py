"""Tails through Kafka: the first line of a partition that nobody watched, and what 200 tails cost of very many apps.

    python -m benchmarks.kafka_tails [--apps 200,10000] [--tails N] [--rate N] [--seconds N] [--runs N]

The rate is that of all apps together. For `us` and `mb` see benchmarks/roles.py.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks.fanout import Tail
from benchmarks.path import request_for, write, writer
from benchmarks.report import Report, median, percentile
from benchmarks.roles import PARTITIONS, Costs, Servers, platform, running, servers
from benchmarks.service import HELLO, make_pod
from logsvc.api.context import LOCAL_TENANT
from logsvc.model import AppId

BACKGROUND = 10_000
"""Lines a second while first lines are waited for."""


def app_of_each_partition() -> list[str]:
    """An app in each partition."""
    apps: dict[int, str] = {}
    for number in count():
        if len(apps) == PARTITIONS:
            return list(apps.values())
        apps.setdefault(AppId(LOCAL_TENANT, f"app-{number}").partition(PARTITIONS), f"app-{number}")
    raise AssertionError


def first_line(url: str, app: str, query: str, log: Path | None = None) -> float:
    """Milliseconds from asking for a tail to its first line, which is written to `log` once the answer has begun."""
    address = urlsplit(url)
    begun = time.perf_counter()
    with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
        connection.settimeout(10)
        connection.sendall(request_for(address.netloc, app, query))
        got = connection.recv(65536)
        if log is not None:
            with log.open("ab") as file:
                file.write(HELLO)
        while b"\ndata: " not in got:
            got += connection.recv(65536)
    return (time.perf_counter() - begun) * 1000


def cold(servers: Servers) -> dict[str, float]:
    """Every partition once, under load: the last lines of half of them, of the others a line written meanwhile."""
    with platform(servers) as made, running(made) as roles:
        apps = app_of_each_partition()
        busy = [make_pod(roles.data, app, 1) for app in apps]
        quiet = {app: make_pod(roles.data, app, 2) for app in apps}
        roles.wait_collected([*busy, *quiet.values()], len(apps))
        last, live = [], []
        with writer(BACKGROUND, 120, busy) as writing:
            time.sleep(2)  # until the load is the usual one
            for number, app in enumerate(apps):
                if number % 2:
                    last.append(first_line(roles.url, app, "tail=1"))
                else:
                    live.append(first_line(roles.url, app, "tail=1&num=0&dyno=web.2", quiet[app]))
            assert writing.poll() is None, "the writer has ended"
            writing.kill()
    figures = {}
    for name, took in (("last", last), ("live", live)):
        figures |= {f"{name}_p{share}_ms": percentile(took, share / 100) for share in (50, 99)}
    return figures


async def read_tails(url: str, tails: int) -> None:
    """Open a tail of each of the first apps, say so, and at the end of stdin print how many lines each got."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    made: list[Tail] = []
    for number in range(tails):
        request = request_for(address.netloc, f"app-{number}", "tail=1&num=0")
        _, tail = await loop.create_connection(
            lambda request=request: Tail(request, checked=True), address.hostname, address.port
        )
        await tail.opened
        made.append(tail)
    print("open", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps([[tail.lines, tail.faults] for tail in made]), flush=True)


def many(servers: Servers, apps: int, tails: int, rate: int, seconds: float) -> dict[str, float]:
    """Tails of the first apps, all at once."""
    with platform(servers) as made, running(made) as roles:
        logs = [make_pod(roles.data, f"app-{number}", 0) for number in range(apps)]
        roles.wait_collected(logs, apps)
        command = [sys.executable, "-m", "benchmarks.kafka_tails", "--read", roles.url, str(tails)]
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        costs = Costs(roles.processes)
        written = write(rate, seconds, logs)
        stored = roles.wait_rows(written + apps)
        figures = costs.figures(written)
        delivered = _compare(reader, roles.lines_by_app(written + apps), tails)
        reader.communicate()
        return {"delivered": delivered, "stored_behind_s": stored, **figures}


def _compare(reader: "subprocess.Popen[str]", history: Mapping[str, int], tails: int) -> int:
    """Wait until each tail has what history has of its app, all in order; the number of lines."""
    assert reader.stdin is not None
    assert reader.stdout is not None
    wanted = [history[f"app-{number}"] - HELLO.count(b"\n") for number in range(tails)]
    end = time.perf_counter() + 10
    while True:
        reader.stdin.write("\n")
        reader.stdin.flush()
        got = json.loads(reader.stdout.readline())
        if [lines for lines, _ in got] == wanted or time.perf_counter() > end:
            break
        time.sleep(0.05)
    wrong = [(*each, lines) for each, lines in zip(got, wanted, strict=True) if each != [lines, 0]]
    assert not wrong, f"tails with other lines than history (lines, faults, wanted): {wrong}"
    return sum(wanted)


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        uvloop.run(read_tails(sys.argv[2], int(sys.argv[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", default="200,10000")
    parser.add_argument("--tails", type=int, default=200)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    report = Report("kafka_tails")
    with servers() as started:
        report.add("first line, partition cold", median([cold(started) for _ in range(asked.runs)]))
        for apps in map(int, asked.apps.split(",")):
            runs = [many(started, apps, asked.tails, asked.rate, asked.seconds) for _ in range(asked.runs)]
            report.add(f"{asked.tails} tails out of {apps} apps", median(runs))
    report.write()


if __name__ == "__main__":
    main()
