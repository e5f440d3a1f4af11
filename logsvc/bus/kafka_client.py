"""Connections to Kafka: what settings mean for aiokafka, and what its errors mean for people."""

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaClient, AIOKafkaConsumer
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError

from logsvc.config import Kafka
from logsvc.errors import BusAway, BusError, ConfigError

CLIENT_ID: Final = "logsvc"
_LEAVE: Final = 5.0
"""Seconds for which a consumer that stops waits for a broker: others that share out anew hold it up for a heartbeat."""


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


class _Cluster(ClusterMetadata):  # type: ignore[misc] # aiokafka has no types
    """What a client knows of brokers; where none of those it has heard of answers, it asks those of its settings again.

    aiokafka 0.14 forgets the latter with the first answer, and later answers name only brokers that are up. A client
    that asked while the first of many was back would depend on that one, and one whose brokers have all moved would
    never find them. Java's clients begin anew as well: KIP-899.
    """

    def failed_update(self, exception: BaseException | None) -> None:
        super().failed_update(exception)
        self._brokers.update(self._bootstrap_brokers)  # until the next answer, which replaces them all


def never_lost(client: AIOKafkaClient, settings: Kafka) -> None:
    """Have a client that hasn't begun outlive its brokers: it goes back to those of its settings when no other answers,
    and uses no connection that is lost already.

    aiokafka 0.14 takes such a one for a while, and uvloop answers what is written to it with RuntimeError. Where that
    meets the task that asks for metadata, the task ends, and the client never hears of another broker.
    """
    client.cluster = _Cluster(bootstrap_servers=list(settings.bootstrap))
    connected = client._get_conn  # noqa: SLF001 - they are looked up here only

    async def connected_still(node: object, **more: object) -> AIOKafkaConnection | None:
        conn = await connected(node, **more)
        if conn is not None and conn._writer is not None and conn._writer.is_closing():  # noqa: SLF001 - as above
            conn.close(reason=CloseReason.CONNECTION_BROKEN)
            conn = await connected(node, **more)
        return conn

    client._get_conn = connected_still  # noqa: SLF001 - as above


async def open_consumer(settings: Kafka, **more: object) -> AIOKafkaConsumer:
    """A consumer that has begun, and commits nothing and chooses no place by itself. Raises BusError."""
    made = AIOKafkaConsumer(**connection(settings) | {"enable_auto_commit": False, "auto_offset_reset": "none"} | more)
    never_lost(made._client, settings)  # noqa: SLF001 - it makes its own
    try:
        async with asyncio.timeout(settings.delivery_timeout):
            await made.start()
    except BaseException as error:
        await stop(made)
        if isinstance(error, (KafkaError, TimeoutError)):
            raise await unreachable(settings) from error
        raise
    return made


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, during an outage too. A group that can't be left soon notices it by itself, later.

    aiokafka's own `stop` (0.14) waits for a broker as long as for any answer, or for several one after the other. It
    ends with CancelledError, and leaves connections open, where a fetch that failed waits to be sent again.
    """
    try:
        async with asyncio.timeout(_LEAVE):
            await consumer.stop()
    except TimeoutError:
        await _abandon(consumer)
    except asyncio.CancelledError:
        await consumer._client.close()  # noqa: SLF001 - as `stop` would
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def _abandon(consumer: AIOKafkaConsumer) -> None:
    """End what a `stop` that was cancelled leaves: heartbeats would have it remain a member."""
    # All as `stop` would.
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001 - as above
    if isinstance(coordinator, GroupCoordinator):
        await coordinator._stop_heartbeat_task()  # noqa: SLF001 - as above
        await coordinator._stop_commit_offsets_refresh_task()  # noqa: SLF001 - as above
    if fetcher is not None:  # it has begun
        with suppress(asyncio.CancelledError):
            await fetcher.close()
    await consumer._client.close()  # noqa: SLF001 - as above


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


class Reason(NamedTuple):
    """Why a broker can't be asked."""

    text: str
    away: bool
    """Whether it may be otherwise in a moment; else the settings, or those of the broker, are wrong."""


async def why_unreachable(settings: Kafka) -> Reason | None:
    """A sentence on why no broker can be asked; None where one can, now.

    aiokafka only logs what each attempt met with, so this makes one of its own. Raises ConfigError.
    """
    arguments = connection(settings)
    reasons: list[Reason] = []
    for server in arguments.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(settings.delivery_timeout):
                conn = await create_conn(host, int(port), **arguments)
        except (OSError, KafkaError, ValueError) as error:
            text, away = _plain(error, settings)
            reasons.append(Reason(f"{server}: {text}", away))
        else:
            await conn.close()
            return None
    return Reason("; ".join(reason.text for reason in reasons), all(reason.away for reason in reasons))


def _plain(error: Exception, settings: Kafka) -> Reason:
    text = str(error)
    if isinstance(error, TimeoutError):
        return Reason("no answer in time", away=True)
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in text:
        return Reason("the connection is refused: is it running there?", away=True)
    if text.endswith("closed"):  # a broker that stops; one that wants TLS, or another certificate, says no more either
        return Reason("it closes the connection: see kafka.security and kafka.cert_file", away=True)
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):  # a name that isn't known yet, too
        return Reason(error.strerror or text, away=True)
    return Reason(_wrong(error, text, settings), away=False)


def _wrong(error: Exception, text: str, settings: Kafka) -> str:
    """What of the settings is wrong."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): see kafka.ca_file"
    if isinstance(error, ssl.SSLError):
        return f"it doesn't take TLS as asked ({error.reason}): see kafka.security and kafka.cert_file"
    if "uthentication" in text or "uthentication" in type(error).__name__:
        return f"name or password are refused for {settings.username!r} by {settings.sasl_mechanism}"
    if "mechanism" in text.lower() or "Mechanism" in type(error).__name__:
        return f"it doesn't take {settings.sasl_mechanism}: see kafka.sasl_mechanism"
    if isinstance(error, ValueError):
        return "kafka.bootstrap has host:port"
    return f"{text or type(error).__name__}: see kafka.security"


async def unreachable(settings: Kafka) -> BusError:
    """The error to raise when a client could not be started: BusAway where it may be otherwise in a moment."""
    why = await why_unreachable(settings) or Reason("no broker answered in time", away=True)
    return (BusAway if why.away else BusError)(f"Kafka can't be used: {why.text}")
