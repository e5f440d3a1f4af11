"""The service as roles on a real Kafka and a ClickHouse: each role a process of its own."""

import asyncio
import re
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster
from tests.support.ports import free_port
from tests.support.program import LOGSVC, Program
from tests.support.wait import until


class Role(Program):
    """`logsvc collect`, `store`, `serve`, `drain` or `procfile`."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], ready: str, settings: Mapping[str, object]) -> None:
        """`ready` is what it says when it has begun."""
        super().__init__(folder, settings)
        self._arguments = arguments
        self._ready = ready

    @property
    def command(self) -> list[str]:
        return [LOGSVC, *self._arguments]

    async def start(self, deadline: float = 60.0) -> None:
        """Start it and wait until it has begun."""
        self.launch()
        await self.ready(deadline)

    async def ready(self, deadline: float = 60.0) -> None:
        await self.said(self._ready, deadline)

    def is_ready(self) -> bool:
        return self._ready in self.stderr

    @property
    def probes(self) -> str:
        """Where it answers probes; `probe.port` has to be set."""
        found = re.search(r"probes and metrics are at (http://\S+)", self.stderr)
        assert found is not None, self.stderr
        return found[1]


class Serving(Role):
    """`logsvc serve` on a port that it keeps."""

    def __init__(self, folder: Path, port: int, settings: Mapping[str, object]) -> None:
        self.port = port
        super().__init__(folder, ("serve", "--port", str(port)), "logsvc serves at", settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logs(self, app: str) -> str:
        """The address of an app's lines."""
        return f"{self.url}/v1/apps/{app}/logs"

    async def add_drain(self, app: str, url: str, **members: object) -> None:
        """Have an app's lines forwarded from now on; `members` as of the API."""
        address = f"{self.url}/apps/{app}/log-drains"
        async with aiohttp.ClientSession() as client, client.post(address, json={"url": url, **members}) as answer:
            assert answer.status == 201, await answer.text()


class Platform:
    """What roles have in common: Kafka, ClickHouse, settings. Roles are made here; whoever makes them ends them."""

    def __init__(
        self, folder: Path, kafka: Cluster, clickhouse: ClickHouse, settings: Mapping[str, object] | None = None
    ) -> None:
        self.folder = folder
        self.kafka = kafka
        self.clickhouse = clickhouse
        bus = self.bus = kafka.settings()
        self.settings: dict[str, object] = {
            "kafka.bootstrap": orjson.dumps(bus.bootstrap).decode(),
            "kafka.prefix": bus.prefix,
            "kafka.replication": bus.replication,
            "kafka.min_insync": bus.min_insync,
            "kafka.development": bus.development,
            "clickhouse.urls": orjson.dumps([clickhouse.url]).decode(),
            "sessions.keys": orjson.dumps([secrets.token_urlsafe(32)]).decode(),
            "log.level": "info",
            **(settings or {}),
        }

    def collect(self, node: str) -> Role:
        for folder in ("pods", "identity"):
            (self.node(node) / folder).mkdir(parents=True, exist_ok=True)
        arguments = ("collect", "--node", node, "--data", str(self.node(node)))
        return Role(self.folder / f"collect-{node}", arguments, "logsvc collects", self.settings)

    def store(self, name: str) -> Role:
        return Role(self.folder / f"store-{name}", ("store",), "logsvc stores", self.settings)

    def drain(self, name: str) -> Role:
        return Role(self.folder / f"drain-{name}", ("drain",), "logsvc delivers drains", self.settings)

    def serve(self, name: str, port: int = 0) -> Serving:
        return Serving(self.folder / f"serve-{name}", port or free_port(), self.settings)

    def procfile(self, node: str, file: Path, app: str, base_port: int) -> Role:
        arguments = ("procfile", "--procfile", str(file), "--app", app, "--data", str(self.node(node)))
        settings = {**self.settings, "procfile.base_port": base_port}
        return Role(self.folder / f"procfile-{node}", arguments, "", settings)

    def node(self, name: str) -> Path:
        """A node's data folder."""
        return self.folder / name

    def run(self, *arguments: str, fails: bool = False, **settings: object) -> str:
        """Run `logsvc <arguments>` to its end; what it says on stdout. Blocks. Raises AssertionError if it fails,
        or if it doesn't though `fails`."""
        others = {name.replace("_", ".", 1): value for name, value in settings.items()}
        program = Role(self.folder / "admin", arguments, "", {**self.settings, **others})
        done = subprocess.run(
            program.command, capture_output=True, text=True, env=program.environment, timeout=120, check=False
        )
        assert done.returncode == int(fails), f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    async def forget(self) -> None:
        """Once all is stored, have Kafka drop it, as it does with what is old."""
        async with KafkaBus.open(self.bus) as bus, KafkaAdmin.open(self.bus) as admin:
            ends = {partition: (await bus.bounds(partition)).end for partition in range(bus.partitions)}

            async def all_is_stored() -> bool:
                marks = await bus.watermarks(ends)
                return all(marks[partition] >= end for partition, end in ends.items())

            await until(all_is_stored, 180, "all is stored")
            dropped = {TopicPartition(bus.topic, partition): RecordsToDelete(end) for partition, end in ends.items()}
            await admin._client.delete_records(dropped)

    async def migrate(self, partitions: int) -> str:
        """`logsvc migrate`, to so many partitions."""
        return await asyncio.to_thread(self.run, "migrate", bus_partitions=partitions)
