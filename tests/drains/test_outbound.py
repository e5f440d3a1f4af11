"""Where drains may connect to: no name and no way of writing an address leads into the platform."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from logsvc.config import Drains
from logsvc.drains.addresses import Addresses, Forbidden
from logsvc.drains.outbound import Outbound
from logsvc.drains.policy import Outcome
from logsvc.drains.protocols import Framed
from logsvc.drains.senders import sender_of
from logsvc.drains.urls import parse
from logsvc.errors import ConfigError
from tests.support import tcp

REFUSED = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1",
    "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::1",
    "2001:db8::1", "64:ff9b::a9fe:a9fe", "not an address", "",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_of_the_platform_are_refused(address: str) -> None:
    with pytest.raises(Forbidden, match="not public"):
        Addresses().check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    Addresses().check(address)


def test_settings_make_exceptions_both_ways_and_what_is_refused_goes_first() -> None:
    addresses = Addresses([ip_network("10.1.0.0/16"), ip_network("fd00::/8")], [ip_network("10.1.2.0/24")])
    addresses.check("10.1.3.4")
    addresses.check("fd00::1")
    addresses.check("::ffff:10.1.3.4")
    for address in ("10.1.2.3", "10.2.0.1", "::ffff:10.1.2.3"):
        with pytest.raises(Forbidden):
            addresses.check(address)
    with pytest.raises(Forbidden):
        Addresses(refuse=[ip_network("1.1.1.0/24")]).check("1.1.1.1")


class Names(AbstractResolver):
    """A resolver that says another address at each look."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.looks = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        self.looks += 1
        address = self._addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


PATIENT = {"connect_timeout": 60, "request_timeout": 60}
URLS = ["http://{}:{}/", "otlp+http://{}:{}", "loki+http://{}:{}", "syslog://{}:{}"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("host", ["rebound.example.com", "127.0.0.1", "localhost.example.com"])
async def test_a_drain_connects_to_nothing_that_it_may_not(url: str, host: str) -> None:
    """A listener on loopback sees no connection, whether the URL names it or DNS does."""
    connections = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await tcp.silent(reader, writer)

    names = Names("127.0.0.1", "127.0.0.1")
    async with tcp.listening(connected) as port, Outbound.open(Drains(**PATIENT), names) as outbound:
        sender = sender_of(parse(url.format(host, port)), "d.token", outbound)
        answer = await sender.send("0" * 32, Framed(b"secret", 1))
        await sender.close()
        assert answer.outcome is Outcome.FAILED
        assert "not public" in answer.words
        assert "127.0.0.1" not in answer.words
    assert connections == 0


@pytest.mark.parametrize("url", URLS)
async def test_a_name_is_looked_at_again_for_each_connection(url: str) -> None:
    """It may lead elsewhere the second time: it is the address of the connection that counts."""
    closing = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await closing.wait()

    settings = Drains(**PATIENT, allow=[ip_network("127.0.0.1/32")])
    names = Names("127.0.0.1", "127.0.0.2")
    async with tcp.listening(connected) as port, Outbound.open(settings, names) as outbound:
        sender = sender_of(parse(url.format("rebound.example.com", port)), "d.token", outbound)
        assert (await sender.send("0" * 32, Framed(b"x", 1))).outcome is Outcome.TAKEN
        closing.set()
        outbound.session.connector._cached_hosts.clear()
        again = sender_of(parse(url.format("rebound.example.com", port)), "d.token", outbound)
        answer = await again.send("1" * 32, Framed(b"x", 1))
        assert "not public" in answer.words
        assert names.looks == 2
        await sender.close()
        await again.close()


class Both(Names):
    """A name that has all of its addresses at once."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = []
        while self._addresses:
            found += await super().resolve(host, port, family)
        return found


@pytest.mark.parametrize("url", URLS)
async def test_an_address_that_takes_no_connection_keeps_nobody_from_the_next(url: str) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    settings = Drains(connect_timeout=10, request_timeout=60, allow=[ip_network("127.0.0.0/8")])
    async with tcp.listening(connected) as port, Outbound.open(settings, Both("127.0.0.2", "127.0.0.1")) as outbound:
        with full("127.0.0.2", port):
            sender = sender_of(parse(url.format("two.example.com", port)), "d.token", outbound)
            assert (await sender.send("0" * 32, Framed(b"x", 1))).outcome is Outcome.TAKEN
            await sender.close()


@contextmanager
def full(address: str, port: int) -> Iterator[None]:
    """What listens there has as many connections waiting as it may, and doesn't look at them: a further one hangs."""
    with socket.create_server((address, port), backlog=0), ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


async def test_what_can_not_be_reached_is_told_without_its_addresses() -> None:
    settings = Drains(**PATIENT, allow=[ip_network("127.0.0.0/8")])
    async with tcp.listening(tcp.silent) as port:
        pass  # nobody listens there any more
    for url in URLS:
        async with Outbound.open(settings, Both("127.0.0.1", "10.0.0.1")) as outbound:
            sender = sender_of(parse(url.format("two.example.com", port)), "d.token", outbound)
            answer = await sender.send("0" * 32, Framed(b"x", 1))
            assert answer.words.startswith("can't be reached")
            assert "0.0.1" not in answer.words
        async with Outbound.open(settings) as outbound:
            sender = sender_of(parse(url.format("no-such-name.invalid", port)), "d.token", outbound)
            answer = await sender.send("0" * 32, Framed(b"x", 1))
            assert answer.words == "has a name that can't be found"


async def test_a_file_of_authorities_that_can_not_be_read_is_told_at_start() -> None:
    with pytest.raises(ConfigError, match=r"drains\.ca_file"):
        async with Outbound.open(Drains(ca_file="/nowhere.pem"), Names()):
            pass
