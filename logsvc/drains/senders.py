"""One try to send a frame: over HTTP, and over a connection of syslog. What comes of it is an `Answer`, never an error.

A sender belongs to one drain and sends one frame at a time; a drain of waived order has several.
"""

import asyncio
import fcntl
import os
import ssl
import struct
import termios
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Final, Protocol

import aiohttp
from yarl import URL

from logsvc.drains.addresses import Forbidden
from logsvc.drains.outbound import Outbound, UnknownName
from logsvc.drains.policy import Answer, Outcome, judge, with_rejected
from logsvc.drains.protocols import Framed, Framer, Posted
from logsvc.drains.protocols.logplex import Logplex
from logsvc.drains.protocols.loki import Loki
from logsvc.drains.protocols.otlp import Otlp
from logsvc.drains.protocols.syslog import Syslog
from logsvc.drains.urls import DrainUrl, basic

USER_AGENT: Final = f"Logplex/1 logsvc/{version('logsvc')}"
_READ: Final = 16 * 1024
"""Bytes of an answer that are read; what is longer isn't, and its connection not used again."""
_GZIP_LEVEL: Final = 1
_RECORD: Final = 16 * 1024
"""Bytes that are encrypted at once, as many as are in a record of TLS: a connection keeps a buffer as large as the most
that ever were."""
_OUTGOING: Final = struct.Struct("i")
_LOOK: Final = 0.002, 0.05
"""Seconds between the first two looks, and the most between two, at whether the other side has everything."""


class Sender(Protocol):
    """Sends frames of one drain."""

    framer: Framer

    async def send(self, frame_id: str, framed: Framed) -> Answer:
        """Send a frame once."""

    async def close(self) -> None: ...


def sender_of(url: DrainUrl, token: str, outbound: Outbound) -> Sender:
    """The sender that a URL asks for; `token` is the drain's."""
    match url.protocol:
        case "logplex":
            return HttpSender(url, Logplex(token), outbound)
        case "otlp":
            return HttpSender(url, Otlp(), outbound)
        case "loki":
            return HttpSender(url, Loki(), outbound)
        case "syslog":
            return SyslogSender(url, Syslog(token), outbound)


class HttpSender:
    """Posts frames. Redirects are not followed: they could lead anywhere."""

    def __init__(self, url: DrainUrl, protocol: Posted, outbound: Outbound) -> None:
        self.framer: Framer = protocol
        self._url, self._protocol, self._outbound = url, protocol, outbound
        target = url.target if url.target != "/" else protocol.path
        self._address = URL(f"{'https' if url.tls else 'http'}://{url.authority}{target}", encoded=True)
        self._headers = self._fixed_headers()

    def _fixed_headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": self._protocol.content_type,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        if self._url.user or self._url.password:
            headers["Authorization"] = f"Basic {basic(self._url.user, self._url.password)}"
        if self._url.gzip:
            headers["Content-Encoding"] = "gzip"
        return headers

    async def send(self, frame_id: str, framed: Framed) -> Answer:
        headers: dict[str, str] = {**self._headers, **self._protocol.headers(frame_id, framed)}
        body = _gzipped(framed.body) if self._url.gzip else framed.body
        headers["Content-Length"] = str(len(body))
        response, said = None, bytearray()
        try:
            async with asyncio.timeout(None) as limit:
                async with self._outbound.session.post(
                    self._address,
                    data=_one_by_one(body) if self._url.tls else body,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self._outbound.tls(insecure=self._url.insecure) if self._url.tls else True,
                    trace_request_ctx=limit,
                ) as response:
                    await _read(response, said)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if response is None:
                return Answer(Outcome.FAILED, described(error))
        return self._judged(response, bytes(said))  # by its status, also where the rest of it didn't come

    def _judged(self, response: aiohttp.ClientResponse, said: bytes) -> Answer:
        hide = self._url.without_secrets
        answer = judge(response.status, said, response.headers.get("Retry-After"), time.time(), hide)
        if answer.outcome is Outcome.TAKEN:
            return with_rejected(answer, self._protocol.rejected(said), hide)
        return answer

    async def close(self) -> None:
        """Connections are the session's."""


def _records(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), _RECORD):
        yield body[at : at + _RECORD]


async def _one_by_one(body: bytes) -> AsyncIterator[bytes]:
    for record in _records(body):
        yield record


async def _read(response: aiohttp.ClientResponse, said: bytearray) -> None:
    while len(said) < _READ and (more := await response.content.read(_READ - len(said))):
        said += more


def _gzipped(body: bytes) -> bytes:
    """The same bytes each time: no time in the header."""
    made = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    return made.compress(body) + made.flush()


class SyslogSender:
    """Writes frames to a connection that is kept.

    Syslog has no answers. So that as little as can be is lost with a connection, a frame counts as taken once the
    other side's kernel has acknowledged all of it; what its process has not read then is lost if it is killed.
    """

    def __init__(self, url: DrainUrl, framer: Framer, outbound: Outbound) -> None:
        self.framer = framer
        self._url, self._outbound = url, outbound
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, frame_id: str, framed: Framed) -> Answer:  # noqa: ARG002 - syslog has no place for it
        try:
            reader, writer = await self._connected()
            async with asyncio.timeout(self._outbound.settings.request_timeout):
                for record in _records(framed.body):
                    writer.write(record)
                await writer.drain()
                await _acknowledged(reader, writer)
        except (OSError, TimeoutError) as error:
            self._abort()
            return Answer(Outcome.FAILED, described(error))
        except BaseException:
            self._abort()  # cut in the middle of a frame
            raise
        return Answer(Outcome.TAKEN, "has acknowledged what was sent")

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is not None and (self._connection[0].at_eof() or self._connection[1].is_closing()):
            self._abort()
        if self._connection is None:
            context = self._outbound.tls(insecure=self._url.insecure) if self._url.tls else None
            self._connection = await self._outbound.connect(self._url.host, self._url.port, context)
            # So that `drain` waits until all of it is written; at 0, asyncio's TLS would wait for ever.
            self._connection[1].transport.set_write_buffer_limits(high=1, low=0)
        return self._connection

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None

    async def close(self) -> None:
        if self._connection is not None:
            _, writer = self._connection
            self._connection = None
            writer.close()


async def _acknowledged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until nothing that was written is left unacknowledged (SIOCOUTQ of tcp(7)). Raises OSError."""
    descriptor = writer.get_extra_info("socket").fileno()
    pause, longest = _LOOK
    while True:
        if reader.at_eof() or writer.is_closing():
            raise ConnectionResetError("it closed the connection")
        (unsent,) = _OUTGOING.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_OUTGOING.size)))
        if not unsent and not writer.transport.get_write_buffer_size():
            return
        await asyncio.sleep(pause)  # the kernel tells nobody when the last byte was acknowledged
        pause = min(2 * pause, longest)


def described(error: BaseException) -> str:
    """What a failed try met with, as the end of a sentence that begins with the other side. Holds no address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message
        return f'has a bad certificate: {reason}. Error L14 (certificate validation): error="bad certificate"'
    if isinstance(cause, ssl.SSLError):
        return f"doesn't speak TLS as it should ({cause.reason or 'no reason given'})"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "takes no connection in time"
    if isinstance(cause, TimeoutError):
        return "doesn't answer in time"
    return _plain(error, cause)


def _plain(error: BaseException, cause: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError | UnknownName):
        return "has a name that can't be found"
    if isinstance(cause, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(cause, ConnectionResetError | BrokenPipeError | aiohttp.ServerDisconnectedError):
        return "closed the connection before it answered"
    if isinstance(cause, Forbidden):
        return f"can't be reached: {cause}"
    if isinstance(cause, OSError):
        # What the error says itself may name addresses.
        return f"can't be reached: {os.strerror(cause.errno)}" if cause.errno else "can't be reached at any address"
    return f"answers what isn't HTTP ({type(error).__name__})"
