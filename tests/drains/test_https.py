"""HTTPS: certificates are verified, unless the URL says otherwise, and redirects lead nowhere."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from logsvc.config import Drains
from logsvc.drains.outbound import Outbound
from logsvc.drains.policy import Answer, Outcome
from logsvc.drains.senders import sender_of
from logsvc.drains.urls import parse
from tests.drains.desk import FAST
from tests.drains.protocols.test_protocols import SAMPLE
from tests.support import tcp
from tests.support.certificates import serving
from tests.support.receiver import Receiver, Verdict, answer

FRAME = "0" * 32


async def sent(url: str, **settings: object) -> Answer:
    async with Outbound.open(Drains(**FAST | settings)) as outbound:
        sender = sender_of(parse(url), "d.token", outbound)
        try:
            return await sender.send(FRAME, sender.framer.frame(SAMPLE))
        finally:
            await sender.close()


async def test_a_certificate_of_a_known_authority_is_taken(certificates: tuple[Path, Path]) -> None:
    ca, certificate = certificates
    async with Receiver().listening(context=serving(certificate)) as receiver:
        assert (await sent(receiver.url, ca_file=str(ca))).outcome is Outcome.TAKEN
        assert receiver.all[0].headers["Logplex-Msg-Count"] == "7"


async def test_one_that_nobody_knows_is_refused_unless_the_url_says_insecure(certificates: tuple[Path, Path]) -> None:
    async with Receiver().listening(context=serving(certificates[1])) as receiver:
        refused = await sent(receiver.url)
        assert refused.outcome is Outcome.FAILED
        assert 'Error L14 (certificate validation): error="bad certificate"' in refused.words
        assert receiver.all == []
        assert (await sent(f"{receiver.url}#insecure")).outcome is Outcome.TAKEN


async def test_a_certificate_of_another_host_is_refused(certificates: tuple[Path, Path]) -> None:
    ca, certificate = certificates
    async with Receiver().listening(context=serving(certificate)) as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        refused = await sent(url, ca_file=str(ca))
        assert "has a bad certificate" in refused.words


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver().listening() as inside, Receiver().listening() as receiver:
        receiver.behave = answer(308, Location=inside.url)
        answered = await sent(receiver.url)
        assert answered.outcome is Outcome.FAILED
        assert "308 Permanent Redirect (redirects are not followed" in answered.words
        assert inside.all == []


async def test_secrets_that_a_receiver_says_back_are_told_to_nobody() -> None:
    """Neither where they stand across the end of what is told of an answer."""

    def echo(request: web.Request) -> web.Response:
        said = f"{request.raw_path} {request.headers['Authorization']} {'x' * 130} {request.raw_path}"
        if request.path.startswith("/taken"):
            partial = ExportLogsPartialSuccess(rejected_log_records=1, error_message=said)
            return web.Response(body=ExportLogsServiceResponse(partial_success=partial).SerializeToString())
        return web.json_response({"error": "no such place", "path": said}, status=404)

    async with Receiver(echo).listening() as receiver:
        receiver.url = receiver.url.replace("//", "//user:SECRET1@")
        refused = await sent(f"{receiver.url}/in/SECRET2?key=SECRET3")
        assert refused.words.startswith('answers 404 Not Found: {"error": "no such place", "path": "**** Basic **** x')
        receiver.verdict = Verdict()  # the frame under the same id is another one now
        rejected = await sent(f"otlp+{receiver.url}/taken/SECRET2?key=SECRET3")
        assert rejected.words.startswith("rejects lines of what it takes: **** Basic **** x")
        for answered in (refused, rejected):
            assert "SECR" not in answered.words
            assert "U0VDUkVU" not in answered.words, "nor in base64"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "closed the connection before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answers what isn't HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000, ""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nlater", "answers 503 Service Unavailable: later"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb", ""),
    ],
)
async def test_odd_answers_are_told_in_words_and_hold_nothing_up(said: bytes, words: str) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with tcp.listening(connected) as port:
        answered = await sent(f"http://127.0.0.1:{port}")
        if words:
            assert answered.outcome is Outcome.FAILED
            assert words in answered.words
        else:
            assert answered.outcome is Outcome.TAKEN


@pytest.mark.parametrize(
    ("said", "outcome", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", Outcome.TAKEN, "answers 200 OK"),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 50\r\n\r\nno more", Outcome.REFUSED, "answers 410 Gone: no more"),
    ],
)
@pytest.mark.parametrize("end", ["hangs", "is closed"])
async def test_a_status_is_an_answer_though_the_rest_of_it_never_comes(
    said: bytes, outcome: Outcome, words: str, end: str
) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        if end == "hangs":
            await reader.read()

    async with tcp.listening(connected) as port:
        assert await sent(f"http://127.0.0.1:{port}", request_timeout=0.5) == (outcome, words, None, 0)


async def test_an_answer_that_comes_bit_by_bit_has_no_more_time_than_any_other() -> None:
    over = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            while not over.is_set():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                # Always in time for a client that waits for the next byte only.
                await asyncio.sleep(0.05)

    async with tcp.listening(connected) as port:
        async with asyncio.timeout(30):
            answered = await sent(f"http://127.0.0.1:{port}", request_timeout=0.5)
        over.set()
    assert answered == (Outcome.FAILED, "doesn't answer in time", None, 0)


async def test_what_can_not_be_reached_is_told_in_words() -> None:
    async with tcp.listening(tcp.silent) as port:
        assert (await sent(f"http://127.0.0.1:{port}", request_timeout=0.5)).words == "doesn't answer in time"
        assert (await sent(f"https://127.0.0.1:{port}", connect_timeout=0.5)).words == "takes no connection in time"
    assert (await sent(f"http://127.0.0.1:{port}")).words == "refuses the connection"
    assert (await sent("https://no-such-name.invalid")).words == "has a name that can't be found"
