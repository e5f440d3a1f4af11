"""Connections to the outside, each checked when it is made: to a forbidden address there is none.

A name is resolved and then connected to by address, and that address is what is checked. So a name that leads
elsewhere at the second look gets no further.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, Self

import aiohttp
from aiohappyeyeballs import start_connection
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import AsyncResolver

from logsvc.config import Drains
from logsvc.drains.addresses import Addresses
from logsvc.errors import ConfigError

KEEP_ALIVE: Final = 144.0
"""Seconds that an idle connection is kept, as Heroku's drains keep them."""

_NEXT: Final = 0.25
"""Seconds after which the next address of a name is tried as well, as RFC 8305 has it and aiohttp does it."""

_Address = tuple[int, int, int, str, tuple[Any, ...]]
"""As of `getaddrinfo`."""


class UnknownName(OSError):
    """A name has no address."""


class Outbound:
    """What all drains of a process connect with. Made by `open`."""

    def __init__(self, settings: Drains, resolver: AbstractResolver) -> None:
        self.settings = settings
        self._resolver = resolver
        self._addresses = Addresses(settings.allow, settings.refuse)
        self._verified = _verified(settings.ca_file)
        self._unverified = _unverified()
        self.session = self._session()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Drains, resolver: AbstractResolver | None = None) -> AsyncIterator[Self]:
        """Closed at the end of the block. `resolver` instead of DNS. Raises ConfigError."""
        # c-ares: with threads a few names that are slow to resolve would hold up all others.
        using = resolver or AsyncResolver()
        try:
            outbound = cls(settings, using)
            try:
                yield outbound
            finally:
                await outbound.session.close()
        finally:
            if resolver is None:
                await using.close()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._socket,
                limit=0,  # as many as there are drains: each has few requests at a time
                keepalive_timeout=KEEP_ALIVE,
            ),
            timeout=aiohttp.ClientTimeout(connect=self.settings.connect_timeout),
            trace_configs=[self._timed()],
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few words are all that is read of an answer
            trust_env=False,
        )

    def _timed(self) -> aiohttp.TraceConfig:
        """Has the `asyncio.Timeout` that a request names begin once it is connected."""
        traced = aiohttp.TraceConfig()

        async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
            limit: asyncio.Timeout = context.trace_request_ctx
            limit.reschedule(asyncio.get_running_loop().time() + self.settings.request_timeout)

        traced.on_request_headers_sent.append(connected)
        return traced

    def tls(self, *, insecure: bool) -> ssl.SSLContext:
        """How certificates are verified."""
        return self._unverified if insecure else self._verified

    async def connect(
        self, host: str, port: int, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection, with TLS where there is a context. Raises OSError; TimeoutError after connect_timeout."""
        async with asyncio.timeout(self.settings.connect_timeout):
            sock = await self._connected(host, port)
            try:
                return await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=host if context is not None else None
                )
            except BaseException:
                sock.close()
                raise

    async def _connected(self, host: str, port: int) -> socket.socket:
        """To the first of its addresses that takes a connection; another one is tried while one is waited for."""
        try:
            found = await self._resolver.resolve(host, port, family=socket.AF_UNSPEC)
        except OSError as error:
            raise UnknownName from error
        places: list[_Address] = [
            (each["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each["host"], each["port"])) for each in found
        ]
        if not places:
            raise UnknownName
        return await start_connection(places, happy_eyeballs_delay=_NEXT, socket_factory=self._socket)

    def _socket(self, address: _Address) -> socket.socket:
        """A socket to connect to an address with; here every connection of a drain begins. Raises Forbidden."""
        family, kind, protocol, _, place = address
        self._addresses.check(place[0])
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        return sock


def _verified(ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if ca_file:
            context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"drains.ca_file can't be used: {error.strerror or error}") from error
    return context


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
