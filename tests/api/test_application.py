"""Around the lines: who may call, what is told of errors, health, metrics, and how the server begins and ends."""

import asyncio
import re
import socket

import aiohttp
import pytest

from logsvc.api.context import Context
from logsvc.api.probe import listening as probed
from logsvc.api.server import listening
from logsvc.errors import ConfigError, StoreError
from logsvc.store.protocol import Store
from tests.api.served import NDJSON, SSE, Served, problem_of, serving
from tests.api.test_tailing import Away
from tests.support import free_port
from tests.support.wait import DEADLINE, until


async def raw(served: Served, request: bytes) -> bytes:
    """What is answered to these bytes until the connection is closed."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
async def test_requests_to_this_machine_are_answered(served: Served, host: str) -> None:
    async with served.client.get(f"{served.url}/healthz", headers={"Host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost:8080.evil.example",
        "127.0.0.1.evil.example",
        "[::",
        "a b",
        "",
        "localhost@evil.example",
        "evil.example:8080",
        "[::2]",
    ],
)
async def test_a_name_that_was_rebound_to_this_machine_is_refused(served: Served, host: str) -> None:
    await served.rig.write(1)
    for path in ("/healthz", f"/v1/apps/{served.name}/logs", "/nowhere"):
        async with served.client.get(f"{served.url}{path}", headers={"Host": host}) as response:
            assert response.status == 403
            await problem_of(response)


async def test_a_request_that_names_no_host_is_refused(served: Served) -> None:
    assert (await raw(served, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 403 ")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://[::1]:8080", 200),
        ("http://evil.example", 403),
        ("https://localhost.evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("chrome-extension://localhost", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
async def test_pages_of_other_sites_are_refused(served: Served, origin: str, status: int) -> None:
    await served.rig.write(1)
    async with served.get(Origin=origin) as response:
        assert response.status == status
        if status != 200:
            await problem_of(response)
    if status != 200:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await served.client.ws_connect(served.logs, origin=origin)
        async with served.client.post(served.logs, data="x", headers={"Origin": origin}) as response:
            assert response.status == 403


@pytest.mark.parametrize("path", ["/v1", "/v1/apps/", "/v1/apps/demo", "/v1/apps/demo/logs/", "/v1/apps/a/b/logs"])
async def test_what_is_nowhere_is_a_problem_document(served: Served, path: str) -> None:
    async with served.client.get(served.url + path) as response:
        assert response.status == 404
        assert (await problem_of(response))["detail"] == "There is nothing at this address."


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/apps/demo/logs", {"DELETE", "GET", "HEAD", "POST"}),
        ("OPTIONS", "/v1/apps/demo/logs", {"DELETE", "GET", "HEAD", "POST"}),
        ("PUT", "/v1/apps", {"GET", "HEAD"}),
        ("POST", "/v1/apps/demo/volume", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_what_cannot_be_done_says_what_can(served: Served, method: str, path: str, allow: set[str]) -> None:
    async with served.client.request(method, served.url + path) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == allow
        await problem_of(response)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: br\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"POST /v1/apps/x/logs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_problem_document_too(
    served: Served, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(served, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert b"application/problem+json" in head
    assert b'"status":400' in body
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/healthz", "/v1/apps", "/nowhere"])
async def test_what_a_client_may_not_expect_is_a_problem_document_too(served: Served, path: str) -> None:
    async with served.client.get(served.url + path, headers={"Expect": "miracles"}) as response:
        assert response.status == 417
        await problem_of(response)


async def test_the_port_of_probes_answers_with_problem_documents_too(served: Served) -> None:
    async with probed("127.0.0.1", 0, lambda: None) as port:
        for method, path, status in (("GET", "/nowhere", 404), ("POST", "/healthz", 405)):
            async with served.client.request(method, f"http://127.0.0.1:{port}{path}") as response:
                assert response.status == status
                assert ("Allow" in response.headers) == (status == 405)
                await problem_of(response)


async def test_a_chunked_body_that_is_garbled_is_refused(served: Served) -> None:
    answer = await raw(
        served,
        f"POST /v1/apps/{served.name}/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n4\r\none\n\r\nzz\r\n".encode(),
    )
    assert b" 400 " in answer.split(b"\r\n")[0]


async def test_health_and_readiness(store: Store) -> None:
    async with serving(store) as served:
        for path in ("healthz", "readyz"):
            async with served.client.get(f"{served.url}/{path}") as response:
                assert (response.status, await response.text()) == (200, "ok\n")
        served.context.ready.clear()
        async with served.client.get(f"{served.url}/readyz") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert (await problem_of(response))["detail"] == "Starting."


async def metric(served: Served, line: str) -> float:
    async with served.client.get(f"{served.url}/metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    values = [float(found.rpartition(" ")[2]) for found in text.split("\n") if found.startswith(line)]
    return values[0] if values else 0.0


async def test_metrics_count_what_was_delivered_and_how_requests_ended(served: Served) -> None:
    await served.rig.write(5)
    lines = 'logsvc_delivered_lines_total{representation="ndjson"}'
    gone = 'logsvc_http_requests_total{method="GET",route="/v1/apps/{app}/logs",status="499"}'
    before = await metric(served, lines), await metric(served, gone)
    await served.messages("num=3")
    assert await metric(served, lines) == before[0] + 3
    async with served.get("tail=true", **NDJSON) as response:
        await response.content.readline()
        assert await metric(served, 'logsvc_tails{representation="ndjson"}') == 1
    await until(lambda: served.context.tails == 0, what="the tail has ended")
    assert await metric(served, 'logsvc_tails{representation="ndjson"}') == 0
    assert await metric(served, gone) == before[1] + 1


QUOTED = "swordfish"
"""Stands in a line."""


class Refusing(Away):
    """The real store, which refuses one kind of query."""

    async def before(self, *asked: object) -> object:  # noqa: ARG002 - the store's shape
        raise StoreError("the store refused a value as malformed") from ValueError(QUOTED)

    async def apps(self, *asked: object) -> object:  # noqa: ARG002 - as above
        raise ZeroDivisionError(QUOTED) from KeyError(QUOTED)


async def test_errors_that_nobody_foresaw_say_no_more_than_that(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Refusing(store)) as served:  # type: ignore[arg-type]  # it is a store by delegation
        await served.rig.write(1)
        await served.rig.store_upto(1)
        for url in (served.logs, f"{served.url}/v1/apps"):
            async with served.client.get(url) as response:
                assert response.status == 500
                assert QUOTED not in str(await problem_of(response))
    assert "a query failed: the store refused a value as malformed" in caplog.text
    assert re.search(
        r"GET /v1/apps failed: ZeroDivisionError\n.*test_application.*\ndue to KeyError", caplog.text, re.DOTALL
    )
    assert QUOTED not in caplog.text, "an engine's text, or that of an error nobody foresaw, may quote lines"


async def test_a_websocket_client_that_says_too_much_is_let_go(served: Served) -> None:
    await served.rig.write(1)
    async with served.client.ws_connect(f"{served.logs}?tail=true") as socket:
        await socket.receive_json(timeout=DEADLINE)
        await socket.send_str("means nothing")
        assert (await socket.receive_json(timeout=DEADLINE))["problem"]["status"] == 400
        await served.rig.write(1)
        await socket.receive_json(timeout=DEADLINE)
        await socket.send_bytes(b"x" * 70_000)
        await socket.receive(timeout=DEADLINE)
        assert socket.close_code == 1009
    await until(lambda: served.context.tails == 0)


async def test_clients_that_go_without_a_word_leave_nothing_behind(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    await served.rig.write(3)
    async with (
        served.get("tail=true", **SSE) as sse,
        served.client.ws_connect(f"{served.logs}?tail=true") as socket,
    ):
        await until(lambda: served.context.tails == 2)
        sse.connection.transport.abort()  # type: ignore[union-attr]  # it is open
        socket._response.connection.transport.abort()  # type: ignore[union-attr]  # it is open
        for _ in range(50):
            await served.rig.write(20, text="x" * 2000)
    await until(lambda: served.context.tails == 0, what="both tails have ended")
    assert "failed" not in caplog.text
    await until(lambda: served.rig.router.watched == 0, what="nothing is read for nobody")


async def test_a_client_that_never_reads_holds_up_nobody(served: Served) -> None:
    """Megabytes wait for it; what the others get comes at once, and the service stops in order."""
    await served.rig.write(1)
    async with served.get("tail=true", **NDJSON) as idle, served.get("tail=true&num=0", **NDJSON) as reader:
        for _ in range(40):
            await served.rig.write(20, text="x" * 10_000)
        async with asyncio.timeout(DEADLINE):
            for _ in range(800):
                assert await reader.content.readline()
        assert not idle.content.at_eof()


async def test_the_addresses_that_cannot_be_had_are_told(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    for host, at, reason in (
        ("127.0.0.1", port, "in use by another program"),
        ("192.0.2.1", free_port(), "address"),
        ("no such host.invalid", free_port(), "not an address of this machine"),
    ):
        with pytest.raises(ConfigError, match=reason):
            async with listening(served.context, host, at, 1.0):
                pass


async def test_it_listens_on_ipv6_as_well(served: Served) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    context: Context = served.context
    async with (
        listening(context, "::1", 0, 1.0) as url,
        served.client.get(f"{url}/healthz") as response,
    ):
        assert url.startswith("http://[::1]:")
        assert response.status == 200
