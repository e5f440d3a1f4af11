"""A real Apache Kafka of one broker or more, in a folder of its own, for tests and benchmarks."""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from logsvc.bus.kafka_admin import KafkaAdmin
from logsvc.config import Kafka
from logsvc.errors import BusError
from tests.support.ports import free_port
from tests.support.tcp import listens
from tests.support.wait import eventually, until

JARS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logsvc" / "kafka"
POM = Path(__file__).with_name("kafka-pom.xml")
USER, PASSWORD = "alice", "a secret's secret"
_CLUSTER = "4L6g3nShT-eMCtK--X86sw"
STARTED = 180.0
"""Seconds that a broker may take to start on a busy machine."""


@cache
def jars() -> Path:
    """The folder of Kafka's jars, which `make test` has Maven fill."""
    version = re.search(r"<artifactId>kafka_2.13</artifactId><version>(.*?)</version>", POM.read_text())
    assert version is not None
    folder = JARS / version[1]
    assert (folder / ".complete").exists(), f"no Kafka in {folder}: scripts/kafka.sh gets it"
    return folder


class Broker:
    """One process. Its data survives `kill` and `start`."""

    def __init__(self, folder: Path, node: int, listeners: Mapping[str, int], controller: int, properties: str) -> None:
        self.folder = folder
        self.node = node
        self.listeners = listeners
        self.controller = controller
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "server.properties").write_text(properties)
        self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(folder / "server.properties"),
                   "--add-scram", f'SCRAM-SHA-512=[name={USER},password="{PASSWORD}"]')  # fmt: skip

    def move(self, port: int) -> None:
        """Have it listen elsewhere from its next start on, and say so."""
        properties = self.folder / "server.properties"
        properties.write_text(properties.read_text().replace(f":{self.listeners['PLAINTEXT']}", f":{port}"))
        self.listeners = {**self.listeners, "PLAINTEXT": port}

    def _java(self, *arguments: str) -> None:
        done = subprocess.run(["java", "-cp", f"{jars()}/*", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        # Brokers that live for minutes: optimising their code would take more of the cores than it saves.
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *options, "-cp", f"{jars()}/*", "kafka.Kafka", str(self.folder / "server.properties")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-4000:]
        return all(map(listens, self.listeners.values()))  # it opens them one after the other

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP; it is still when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        while not all(b") T " in (task / "stat").read_bytes() for task in tasks.iterdir()):
            pass

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Cluster:
    """Brokers that are controllers too."""

    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers = brokers

    def start(self) -> None:
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            eventually(broker.is_up, STARTED, "Kafka to start")

    def revive(self, broker: Broker) -> None:
        """Start one that was killed."""
        broker.start()
        eventually(broker.is_up, STARTED, "the broker to start")

    def restart(self) -> None:
        """`kill -9` of all, and up again."""
        for broker in self.brokers:
            broker.kill()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the block: connections stay, and nothing answers."""
        for broker in self.brokers:
            broker.pause()
        try:
            yield
        finally:
            for broker in self.brokers:
                broker.resume()

    async def leader(self, settings: Kafka, topic: str, partition: int) -> Broker:
        """The broker that a partition is written to, once there is one."""

        async def leading() -> Broker | None:
            found = {each["partition"]: each["leader"] for each in await self._described(settings, topic)}
            return next((broker for broker in self.brokers if broker.node == found.get(partition)), None)

        found = await until(leading, what="a leader")
        assert found is not None
        return found

    async def takes_writes(self, settings: Kafka, topic: str) -> bool:
        """Whether each partition has a leader that runs, and as many replicas as a write needs."""
        found = await self._described(settings, topic)
        up = {broker.node for broker in self.brokers if broker.running}
        return bool(found) and all(
            each["leader"] in up and len(up.intersection(each["isr"])) >= settings.min_insync for each in found
        )

    async def is_in_sync(self, settings: Kafka, topic: str) -> bool:
        """Whether each replica has what its leader has."""
        found = await self._described(settings, topic)
        return bool(found) and all(len(each["isr"]) == len(each["replicas"]) for each in found)

    async def _described(self, settings: Kafka, topic: str) -> list[dict[str, Any]]:
        """The partitions of a topic; none where the broker that was asked is gone, or busy."""
        with suppress(BusError):
            async with KafkaAdmin.open(settings) as admin:
                return await admin.describe(topic)
        return []

    def settings(self, listener: str = "PLAINTEXT", **others: object) -> Kafka:
        """Settings with a prefix that no other test has."""
        given = {
            "bootstrap": [f"127.0.0.1:{broker.listeners[listener]}" for broker in self.brokers],
            "prefix": f"t-{secrets.token_hex(4)}",
            "replication": len(self.brokers),
            "min_insync": min(2, len(self.brokers)),
            "development": len(self.brokers) == 1,
            **others,
        }
        return Kafka.model_validate(given)


@contextmanager
def cluster(
    folder: Path,
    brokers: int = 1,
    extra: str = "",
    names: tuple[str, ...] = ("PLAINTEXT",),
    proxy: int | None = None,
    address: str = "",
) -> Iterator[Cluster]:
    """Start brokers, and kill them at the end. `names` are listeners besides PLAINTEXT, set up by `extra`.

    `proxy` is the port of what a test puts before the listener PROXIED. With an `address` of this machine others than
    this machine reach them there; else they are on loopback.
    """
    ports = [{name: free_port() for name in (*dict.fromkeys(("PLAINTEXT", *names)),)} for _ in range(brokers)]
    controllers = [free_port() for _ in range(brokers)]
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    made = [
        Broker(folder / str(node), node, listeners, controller,
               _properties(folder / str(node), node, voters, listeners, controller, brokers, proxy, address) + extra)
        for node, (listeners, controller) in enumerate(zip(ports, controllers, strict=True), 1)
    ]  # fmt: skip
    whole = Cluster(made)
    try:
        whole.start()
        yield whole
    finally:
        for broker in made:
            broker.kill()


def _addresses(listeners: Mapping[str, int], host: str = "127.0.0.1") -> str:
    return ",".join(f"{name}://{host}:{port}" for name, port in listeners.items())


def _properties(
    folder: Path,
    node: int,
    voters: str,
    listeners: Mapping[str, int],
    controller: int,
    brokers: int,
    proxy: int | None,
    address: str,
) -> str:
    addresses = _addresses(listeners, "" if address else "127.0.0.1")
    known = listeners if proxy is None else {**listeners, "PROXIED": proxy}
    advertised = _addresses(known, address or "127.0.0.1")
    replicas = min(brokers, 3)
    return f"""
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners={addresses},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={folder}/data
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.min.isr={min(brokers, 2)}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
log.cleaner.enable=false
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
"""
