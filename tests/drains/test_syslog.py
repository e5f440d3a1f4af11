"""Drains to rsyslog and syslog-ng, plain and with TLS, and to a receiver of syslog that closes its connections."""

import asyncio
from pathlib import Path

import pytest

from logsvc.drains.model import State
from logsvc.store.protocol import Store
from tests.drains.desk import Desk, desk
from tests.support import Tally, numbered, tcp, until
from tests.support.drain_formats import syslog, whole_messages
from tests.support.syslogd import Rsyslog, Syslogd, SyslogNg


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", [Rsyslog, SyslogNg])
async def test_a_syslog_server_of_debian_gets_every_line_in_order(
    store: Store, tmp_path: Path, certificates: tuple[Path, Path], kind: type[Syslogd], *, tls: bool
) -> None:
    """Lines wait for it while it isn't there yet."""
    ca, certificate = certificates
    async with (
        desk(store, tmp_path / "data", ca_file=str(ca)) as working,
        kind(tmp_path / "server", certificate if tls else None) as server,
    ):
        drain = await working.add(server.url)
        await working.write(50, chunks=20, size=100)
        await until(lambda: failing(working, drain.id))
        await server.start()
        await working.write(50, chunks=20, size=100)
        await until(lambda: len(server.received()) >= working.written, what="all lines")
        rows = [row for row in server.received() if row[1] == b"app"]
        assert {tuple(row[:4]) for row in rows} == {(drain.token.encode(), b"app", b"web.1", rows[0][3])}
        tally = Tally()
        for row in rows:
            tally.feed(row[4])
        tally.check({"w": working.written})
        assert rows[7][4].strip() == numbered("w", 7, b"x" * 100)


async def test_a_server_that_is_killed_loses_what_it_had_not_read_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    """Syslog has no answers: its kernel has taken more than what it has read and written."""
    async with desk(store, tmp_path / "data") as working, Rsyslog(tmp_path / "server") as server:
        await server.start()
        await working.add(server.url)
        allowed: set[int] = set()
        for _ in range(4):
            await working.write(50, chunks=20, size=100)
            written = working.written
            await until(lambda: len(numbers(server)) > 0)
            server.kill()
            allowed |= set(range(written)) - numbers(server)
            await working.write(50, chunks=5, size=100)
            await server.start()
            await until(lambda: working.written - 1 in numbers(server), what="the last line")
        tally = Tally()
        for row in server.received():
            tally.feed(row[-1])
        assert set(range(working.written)) - numbers(server) <= allowed
        assert tally.misordered == 0


def numbers(server: Syslogd) -> set[int]:
    """Of the lines that have come."""
    return {int(row[-1].split(b"seq=")[1].split()[0]) for row in server.received() if b"seq=" in row[-1]}


async def failing(working: Desk, drain: str) -> bool:
    status = (await working.drains.statuses(list(working.drains.drains.values()))).get(drain)
    return status is not None and status.state is State.RETRYING


async def test_a_certificate_that_nobody_signed_is_refused_unless_the_url_says_insecure(
    store: Store, tmp_path: Path, certificates: tuple[Path, Path]
) -> None:
    _, certificate = certificates
    async with (
        desk(store, tmp_path / "data") as working,
        Rsyslog(tmp_path / "server", certificate) as server,
    ):
        await server.start()
        drain = await working.add(server.url)
        await working.write(3)
        await until(lambda: failing(working, drain.id))
        status = (await working.drains.statuses([drain]))[drain.id]
        assert "Error L14 (certificate validation)" in status.error
        assert server.received() == []
        await working.add(f"{server.url}#insecure", start=drain.start)
        await until(lambda: len(server.received()) >= 3)


class Closing:
    """Takes syslog, and closes its connection when it is told to."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.tally = Tally()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        data = b""
        while more := await reader.read(1 << 16):
            data += more
            whole = whole_messages(data)
            for message in syslog(data[:whole]):
                self.tally.feed(message.text)
            data = data[whole:]


async def test_a_connection_that_the_receiver_has_closed_is_noticed_before_anything_is_sent(
    store: Store, tmp_path: Path
) -> None:
    receiver = Closing()
    async with desk(store, tmp_path) as working, tcp.listening(receiver.connected) as port:
        await working.add(f"syslog://127.0.0.1:{port}")
        for _ in range(5):
            await working.write(20, chunks=10)
            await until(lambda: receiver.tally.next("w") == working.written)
            writer = receiver.connections[-1]
            writer.close()
            await writer.wait_closed()
    assert len(receiver.connections) == 5
    receiver.tally.check({"w": working.written})
