"""`logsvc collect`, `store` and `serve`, each a process of its own, on a real Kafka and the engine of ClickHouse.

The servers are started once; each run has a topic, a database and roles of its own. What Kafka and ClickHouse take is
shown beside the roles': all of it shares the machine.
"""

import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import cpu_seconds, peak_memory
from benchmarks.service import Service
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster, cluster
from tests.support.roles import Platform, Role
from tests.support.wait import eventually

PARTITIONS = 64
ROLES = ("collect", "store", "serve")
NODE = "node-1"
_numbers = count(1)


@dataclass(frozen=True)
class Servers:
    """Kafka and ClickHouse, and a folder for whoever uses them."""

    folder: Path
    kafka: Cluster
    clickhouse: ClickHouse


@contextmanager
def servers() -> Iterator[Servers]:
    with TemporaryDirectory(prefix="logsvc-bench-") as folder:
        at = Path(folder)
        with cluster(at / "kafka") as kafka, ClickHouse(at / "clickhouse") as clickhouse:
            yield Servers(at, kafka, clickhouse)


@dataclass(frozen=True)
class Roles(Service):
    """Running roles. `pid` is that of `serve`, `data` the node's folder."""

    platform: Platform
    processes: Mapping[str, int]
    """Process ids by what they are."""

    def _ask(self, sql: str) -> str:
        return _ask(self.platform.clickhouse, sql, str(self.platform.settings["clickhouse.database"]))

    def wait_rows(self, rows: int, seconds: float = 120) -> float:
        """Wait until ClickHouse has so many rows; the seconds it took."""
        sql = "SELECT sum(rows) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'lines'"
        begun = time.perf_counter()
        while (found := int(self._ask(sql))) < rows:
            if time.perf_counter() - begun > seconds:
                raise TimeoutError(f"{rows - found} of {rows} lines are missing in ClickHouse")
            time.sleep(0.02)
        return time.perf_counter() - begun

    def lines_by_app(self, wanted: int) -> dict[str, int]:
        """How many lines of each app ClickHouse has. Raises AssertionError where that isn't `wanted` of all apps."""
        rows = self._ask("SELECT app, count() FROM lines FINAL GROUP BY app").splitlines()
        lines = {app: int(count) for app, count in (row.split("\t") for row in rows)}
        assert sum(lines.values()) == wanted, f"ClickHouse has {sum(lines.values())} lines of {wanted}"
        return lines


@contextmanager
def platform(servers: Servers, settings: Mapping[str, object] | None = None) -> Iterator[Platform]:
    """A topic and a database of one's own, on servers that are there."""
    number = next(_numbers)
    database = f"bench_{number}"
    given = {"clickhouse.database": database, "log.level": "warning", **(settings or {})}
    made = Platform(servers.folder / str(number), servers.kafka, servers.clickhouse, given)
    made.run("migrate", bus_partitions=PARTITIONS)
    yield made
    _ask(servers.clickhouse, f"DROP DATABASE {database} SYNC")


@contextmanager
def running(platform: Platform, roles: Sequence[str] = ROLES) -> Iterator[Roles]:
    """The named roles, ready; at the end they are killed, and what they had to complain about is shown."""
    serve = platform.serve("1")
    made: dict[str, Role] = {"collect": platform.collect(NODE), "store": platform.store("1"), "serve": serve}
    started = {name: made[name] for name in roles}
    with ExitStack() as stack:
        for role in started.values():
            role.launch()
            stack.callback(_end, role)
        for name, role in started.items():
            eventually(lambda role=role: role.is_ready() or not role.running, 60, f"{name} to start")
            assert role.running, role.stderr
        processes = {name: role.pid for name, role in started.items()}
        processes |= {"kafka": platform.kafka.brokers[0].pid, "clickhouse": platform.clickhouse.pid}
        yield Roles(serve.url, processes.get("serve", 0), platform.node(NODE), platform, processes)


def _end(role: Role) -> None:
    role.kill()
    sys.stderr.writelines(
        f"    {line}\n" for line in role.stderr.splitlines() if " warning " in line or " error " in line
    )


def _ask(clickhouse: ClickHouse, sql: str, database: str = "default") -> str:
    with urllib.request.urlopen(f"{clickhouse.url}/?database={database}", data=sql.encode()) as answer:
        text: str = answer.read().decode()
    return text


class Costs:
    """What processes cost from here on."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self._began = self._seconds()

    def _seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._processes.items()}

    def seconds(self) -> dict[str, float]:
        """CPU-seconds since then, by process."""
        return {name: seconds - self._began[name] for name, seconds in self._seconds().items()}

    def figures(self, lines: int) -> dict[str, float]:
        """CPU time a line, and the most memory that each process has had so far."""
        costs = {f"{name}_us": seconds / lines * 1e6 for name, seconds in self.seconds().items()}
        return costs | {f"{name}_mb": peak_memory(pid) for name, pid in self._processes.items()}
