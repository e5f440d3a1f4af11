"""Connections to Kafka: what settings mean for aiokafka, and what its errors mean for people."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from logsvc.config import Kafka
from logsvc.errors import BusError, ConfigError

CLIENT_ID: Final = "logsvc"


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup for what works behind the block; an error of the block leaves it as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def connection(settings: Kafka) -> dict[str, Any]:
    """The arguments that every client of aiokafka takes. Raises ConfigError where certificates can't be used."""
    security = settings.security.upper()
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap),
        "client_id": CLIENT_ID,
        "security_protocol": security,
        "request_timeout_ms": max(1, int(settings.delivery_timeout * 1000)),
    }
    if security.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(settings)
    if security.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.username
        arguments["sasl_plain_password"] = settings.password.get_secret_value()
    return arguments


def _ssl_context(settings: Kafka) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"kafka.ca_file, kafka.cert_file or kafka.key_file can't be used: {error.strerror or error}"
        ) from error
    return context


async def why_unreachable(settings: Kafka) -> str:
    """A sentence on why no broker can be asked; empty where one can, now.

    aiokafka only logs what each attempt met with, so this makes one of its own.
    """
    arguments = connection(settings)
    reasons = []
    for server in arguments.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(settings.delivery_timeout):
                conn = await create_conn(host, int(port), **arguments)
        except (OSError, KafkaError, ValueError) as error:
            reasons.append(f"{server}: {_plain(error, settings)}")
        else:
            await conn.close()
            return ""
    return "; ".join(reasons)


def _plain(error: Exception, settings: Kafka) -> str:
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): see kafka.ca_file"
    if isinstance(error, ssl.SSLError):
        return f"it doesn't take TLS as asked ({error.reason}): see kafka.security and kafka.cert_file"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if "uthentication" in text or "uthentication" in type(error).__name__:
        return f"name or password are refused for {settings.username!r} by {settings.sasl_mechanism}"
    if "mechanism" in text.lower() or "Mechanism" in type(error).__name__:
        return f"it doesn't take {settings.sasl_mechanism}: see kafka.sasl_mechanism"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in text:
        return "the connection is refused: is it running there?"
    if isinstance(error, ValueError):
        return "kafka.bootstrap has host:port"
    if text.endswith("closed"):  # a broker that wants TLS, or another certificate, says no more than that
        return "it closes the connection: see kafka.security and kafka.cert_file"
    return f"{text or type(error).__name__}: see kafka.security"


async def unreachable(settings: Kafka) -> BusError:
    """The error to raise when a client could not be started."""
    why = await why_unreachable(settings)
    return BusError(f"Kafka can't be used: {why or 'no broker answered in time'}")
