"""Drains through the roles, on a real Kafka and a ClickHouse: every line, however processes end."""

import asyncio
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.readers import history
from tests.chaos.writer import Node, Writer, Writing
from tests.support import Tally, until
from tests.support.certificates import authority, signed
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster
from tests.support.ports import free_port
from tests.support.program import Program
from tests.support.receiver import Kept, Verdict
from tests.support.roles import Platform, Role, Serving
from tests.support.syslogd import Rsyslog

pytestmark = pytest.mark.timeout(900)

SETTINGS = {"drains.http": True, "drains.allow": '["127.0.0.1/32"]', "drains.pause_most": 2}
APPS = {"first": "", "second": "otlp+", "third": "loki+", "fourth": ""}
"""With what the schemes of their drains begin."""
TAKEN_OVER = 60.0
"""Seconds within which others go on with what a killed process delivered, also on a busy machine; see `make chaos`."""
UNORDERED = "fourth"
"""The app whose drain waives the order."""


class ReceiverProcess(Program):
    """tests/support/receiver.py, on a port that it keeps, with TLS where it has a certificate; what it gets is kept."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        super().__init__(folder)
        self.port, self._certificate = free_port(), certificate
        self._file = folder / "frames"
        self._kept = Kept(self._file)
        self._verdicts: dict[str, Verdict] = defaultdict(Verdict)

    @property
    def command(self) -> list[str]:
        own = [self._certificate] if self._certificate is not None else []
        return [sys.executable, "-m", "tests.support.receiver", str(self.port), *map(str, [self._file, *own])]

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate is not None else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.launch()
        await self.said("receiver is ready")

    def verdicts(self) -> dict[str, Verdict]:
        """By app, which is the path that was posted to."""
        for frame in self._kept.new():
            self._verdicts[frame.path.strip("/")].feed(frame)
        return self._verdicts

    async def goes_on(self, deadline: float = 180.0) -> None:
        """Wait until each app has new lines."""
        before = {app: self.verdicts()[app].tally.lines for app in APPS}

        def each() -> bool:
            now = self.verdicts()
            return all(now[app].tally.lines > before[app] for app in APPS)

        await until(each, deadline, "lines of each app")


async def test_what_clickhouse_alone_has_arrives_through_kills_of_it(
    platform: Platform, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """A drain that was down for longer than Kafka keeps lines catches up, and ClickHouse is killed meanwhile."""
    platform.settings |= SETTINGS | {"drains.batch_bytes": 10_000}
    await platform.migrate(1)
    collector, server, store = platform.collect("n"), platform.serve("1"), platform.store("1")
    drain, receiver = platform.drain("1"), ReceiverProcess(tmp_path / "receiver")
    async with collector, server, store, drain, receiver:
        for role in (collector, server, store):
            await role.start()
        await server.add_drain("first", f"{receiver.url}/first")
        with Writer(platform.node("n"), Writing(app="first", lines=5000)) as writer:
            written = (await asyncio.to_thread(writer.wait)).written
            await until(lambda: is_in_history(server, "first", written), 180, "history")
        await platform.forget()
        clickhouse.kill()
        try:
            await receiver.start()
            await drain.start()
            await until(lambda: says(server, "first", "The log can't be read now"), 180, "the drain to say so")
        finally:
            await clickhouse.start()
        tally = receiver.verdicts()["first"].tally
        for share in (0.1, 0.4, 0.7):
            await until(lambda share=share: has(receiver, share * sum(written.values())), 180, "more lines")
            clickhouse.kill()
            await clickhouse.start()
        await until(lambda: is_complete(receiver, {"first": written}), 180, "the last lines")
        tally.check(written)


async def is_in_history(server: Serving, app: str, written: dict[str, int]) -> bool:
    return (await history(server.logs(app))).tally.complete(written)


async def says(server: Serving, app: str, words: str) -> bool:
    """Whether the status of the app's drain has these words."""
    address = f"{server.url}/apps/{app}/log-drains?status=true"
    async with aiohttp.ClientSession() as client, client.get(address) as answer:
        (drain,) = await answer.json()
        return words in (drain["status"]["error"] or "")


def has(receiver: ReceiverProcess, lines: float) -> bool:
    return receiver.verdicts()["first"].tally.lines >= lines


async def test_every_line_arrives_through_kills_of_roles_receiver_and_kafka_and_a_new_epoch(
    platform: Platform, kafka: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca_key, ca = authority(tmp_path, "authority")
    platform.settings |= SETTINGS | {"drains.ca_file": ca}
    await platform.migrate(6)
    collector, server = platform.collect("n"), platform.serve("1")
    store, drains = platform.store("1"), [platform.drain(str(number)) for number in range(2)]
    receiver = ReceiverProcess(tmp_path / "receiver", signed(tmp_path, "receiver", ca_key, ca))
    async with collector, server, store, drains[0], drains[1], receiver:
        for role in (collector, server, store, *drains):
            await role.start()
        await receiver.start()
        for app, protocol in APPS.items():
            await server.add_drain(app, f"{protocol}{receiver.url}/{app}", ordered=app != UNORDERED)
        writings = [Writing(app=app, rate=200, long_every=499) for app in APPS]
        with Node(platform.node("n"), writings) as node:
            await receiver.goes_on()
            for _ in range(3):
                took = await kill_one(random.choice(drains), receiver)
                assert took < TAKEN_OVER
                with capsys.disabled():
                    sys.stdout.write(f"\n  drains of a killed process went on elsewhere after {took:.1f} s\n")
            receiver.kill()
            await receiver.start()
            await receiver.goes_on()
            await platform.migrate(9)
            await receiver.goes_on()
            await asyncio.to_thread(kafka.restart)
            await receiver.goes_on()
            for role in drains:  # both at once
                role.kill()
            for role in drains:
                await role.start()
            await receiver.goes_on()
            written = await asyncio.to_thread(node.finish)
        await until(lambda: is_complete(receiver, written), 180, "the last lines")
        verdicts = receiver.verdicts()
        for app, of_app in written.items():
            verdicts[app].tally.check(of_app, ordered=app != UNORDERED)


async def kill_one(role: Role, receiver: ReceiverProcess) -> float:
    """`kill -9`; the seconds until what it delivered is delivered by the other one."""
    role.kill()
    began = time.monotonic()
    await receiver.goes_on()
    took = time.monotonic() - began
    await role.start()
    await receiver.goes_on()
    return took


async def test_a_syslog_server_gets_every_line_through_kills_of_the_role(platform: Platform, tmp_path: Path) -> None:
    """In order; what was under way comes twice, as syslog has nothing to tell a frame by."""
    platform.settings |= SETTINGS
    await platform.migrate(3)
    collector, server, store = platform.collect("n"), platform.serve("1"), platform.store("1")
    drain, syslog = platform.drain("1"), Rsyslog(tmp_path / "syslog")
    tally, rows = Tally(), 0

    def came(lines: int) -> bool:
        nonlocal rows
        new = syslog.received()[rows:]
        for row in new:
            tally.feed(row[-1])
        rows += len(new)
        return tally.lines >= lines

    async with collector, server, store, drain, syslog:
        for role in (collector, server, store, drain, syslog):
            await role.start()
        await server.add_drain("first", syslog.url)
        with Writer(platform.node("n"), Writing(app="first", rate=500, long_every=0)) as writer:
            for _ in range(3):
                now = tally.lines
                await until(lambda now=now: came(now + 200), 180, "more lines")
                drain.kill()
                await drain.start()
            written = (await asyncio.to_thread(writer.finish)).written
        await until(lambda: came(0) and tally.complete(written), 180, "the last lines")
        assert tally.lost(written) == tally.misordered == 0


def is_complete(receiver: ReceiverProcess, written: dict[str, dict[str, int]]) -> bool:
    verdicts = receiver.verdicts()
    return all(
        verdicts[app].tally.complete(of_app) and (app != UNORDERED or not verdicts[app].tally.gaps)
        for app, of_app in written.items()
    )
