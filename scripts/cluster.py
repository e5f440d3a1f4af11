"""The service as roles with real servers, on this machine: `make cluster`.

    python -m scripts.cluster [first port]

One Kafka broker, the engine of ClickHouse behind its HTTP interface, `logsvc migrate`, and two each of collect, store,
serve and drain. Each collector's node runs the example app, under a name of its own. Everything is kept in a temporary
folder, and is gone at the end.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.clickhouse import ClickHouse
from tests.support.kafka import cluster
from tests.support.roles import Platform, Role, Serving
from tests.support.wait import eventually

PROCFILE = Path(__file__).parent.parent / "examples" / "Procfile"
APPS = ("demo", "staging")
GRACE = 30.0


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="logsvc-cluster-")))
            ended = _wait(_start(stack, folder, port))
        except KeyboardInterrupt:
            ended = None
        # From here on nothing interrupts the end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if ended is not None:
            say(f"{ended.folder.name} has ended:\n{ended.stderr}")
        say("\nStopping.")
    return 0 if ended is None else 1


def _start(stack: ExitStack, folder: Path, port: int) -> list[Role]:
    say("Starting Kafka")
    kafka = stack.enter_context(cluster(folder / "kafka"))
    say("Starting the engine of ClickHouse")
    clickhouse = stack.enter_context(ClickHouse(folder / "clickhouse"))
    platform = Platform(folder, kafka, clickhouse, {"probe.port": 0})
    say(platform.run("migrate").rstrip())
    nodes = {f"node-{number}": app for number, app in enumerate(APPS, 1)}
    # At the end they stop from the last to the first: processes, collectors, then who reads, then who stores.
    serving = [platform.serve(str(number), port + number) for number in range(2)]
    roles: list[Role] = [
        *(platform.store(str(number)) for number in (1, 2)),
        *serving,
        *(platform.drain(str(number)) for number in (1, 2)),
        *(platform.collect(node) for node in nodes),
        *(
            platform.procfile(node, PROCFILE, app, 5000 + 1000 * number)
            for number, (node, app) in enumerate(nodes.items())
        ),
    ]
    for role in roles:
        stack.enter_context(_running(role))
    for role in roles:
        eventually(lambda role=role: role.is_ready() or not role.running, 60, f"{role.folder.name} to start")
    if all(role.running for role in roles):
        say(_greeting(platform, serving, [role for role in roles if role.command[1] != "procfile"]))
    return roles


@contextmanager
def _running(role: Role) -> Iterator[None]:
    role.launch()
    try:
        yield
    finally:
        if role.running:
            role.interrupt()
            try:
                role.wait(GRACE)
            except subprocess.TimeoutExpired:
                say(f"{role.folder.name} did not stop within {GRACE:g} s")
                role.kill()


def _wait(roles: list[Role]) -> Role:
    """Until one of them ends by itself; which one."""
    while True:
        for role in roles:
            if not role.running:
                return role
        time.sleep(0.2)


def _greeting(platform: Platform, serving: list[Serving], probed: list[Role]) -> str:
    urls = [one.url for one in serving]
    probes = "\n".join(f"    {role.folder.name:<16}{role.probes}/metrics" for role in probed)
    commands = "\n".join(f"    PAAS_URL={url} .venv/bin/paas logs --tail -a {app}" for url in urls for app in APPS)
    environment = " ".join(
        f"LOGSVC_{name.replace('.', '_').upper()}='{platform.settings[name]}'"
        for name in ("kafka.bootstrap", "kafka.prefix", "kafka.replication", "kafka.min_insync", "kafka.development",
                     "clickhouse.urls", "sessions.keys")
    )  # fmt: skip
    return f"""
logsvc serves at {" and ".join(urls)} (Ctrl-C stops everything, and nothing is kept). In a second terminal:

{commands}

Kafka is at {", ".join(platform.bus.bootstrap)}, ClickHouse at {platform.clickhouse.url}, all files are in
{platform.folder}. The operator's commands find them by

    export {environment}

and then .venv/bin/logsvc check, or LOGSVC_BUS_PARTITIONS=16 .venv/bin/logsvc migrate for a new epoch.
Metrics, with /healthz and /readyz beside them, are at

{probes}
"""


if __name__ == "__main__":
    sys.exit(main())
