"""Clients that mean harm: what they try is refused or survived, and the others are served meanwhile."""

import asyncio
import gzip
import re
import resource
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import zstandard
from yarl import URL

from logsvc.api.delivery import Delivery
from logsvc.api.logs import _drain
from logsvc.api.openapi import document
from logsvc.store.protocol import Store
from tests.api.guarded import Guarded
from tests.api.served import SSE, Served, problem_of, serving
from tests.api.test_sessions import opened
from tests.support.wait import DEADLINE, until


async def connect(served: Served, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    return reader, writer


async def is_served(served: Served) -> None:
    """Whoever means well is answered at once."""
    async with asyncio.timeout(DEADLINE):
        assert await served.messages("num=1") == served.all()[-1:]


async def test_heads_that_never_end_are_let_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.api.server._IDLE", 3.0)
    async with serving(store) as served:
        await served.rig.write(1)
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
        slow = [await connect(served, head) for _ in range(200)]
        await is_served(served)
        async with asyncio.timeout(DEADLINE):
            for reader, writer in slow:
                with suppress(ConnectionError):
                    await reader.read()
                writer.close()


@pytest.mark.parametrize("path", ["v1/apps/{}/logs", "apps/{}/log-sessions", "apps/{}/log-drains"])
async def test_bodies_that_never_end_are_let_go(served: Served, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.api.bodies.IDLE", 0.2)
    monkeypatch.setattr("logsvc.api.bodies.WHOLE", 0.2)
    await served.rig.write(1)
    head = f"POST /{path.format(served.name)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    reader, writer = await connect(served, f"{head}Content-Length: 9\r\n\r\nline\n".encode())
    async with asyncio.timeout(DEADLINE):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


async def test_connections_that_are_opened_and_left_cost_little(served: Served) -> None:
    await served.rig.write(1)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(2000, allowed // 2 - 200)  # both ends are in this process
    left = []
    for _ in range(0, count, 100):
        left += await asyncio.gather(*(connect(served, b"") for _ in range(100)))
    await is_served(served)
    for _, writer in left:
        writer.close()


BOMBS = {
    "gzip": gzip.compress(b"x" * 50_000_000),
    "gzip of lines": gzip.compress(b"\n" * 5_000_000),
    "zstd": zstandard.compress(b"x" * 50_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_takes_no_memory_and_no_turn_of_the_others(served: Served, name: str) -> None:
    await served.rig.write(1)
    headers = {"Content-Encoding": name.split(maxsplit=1)[0], "Content-Type": "application/x-ndjson"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served.client.post(served.logs, data=BOMBS[name], headers=headers) as response:
        assert response.status in {200, 400}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    await is_served(served)


@pytest.mark.parametrize(
    "query",
    [
        "grep=" + "x" * 1001,
        "&".join(f"grep={number}" for number in range(3000)),
        "grep_re=" + quote("(" * 500),
        "grep_re=" + quote("(a+)+$"),
        "grep_re=" + quote("((a{1,1000}){1,1000}){1,1000}"),
        "grep_re=" + quote("x{1,1000}" * 100),
        "&".join("grep_re=" + quote(r"\pL" * 100) for _ in range(8)),
        "num=99999999999",
        "since=999999999999d",
        "after=999999999.99999.999999999999999999.999999999",
        "process=" + "a" * 129,
        "not_dyno=" + "a" * 129,
        "&".join(f"not_process=p{number}" for number in range(500)),
    ],
)
async def test_a_query_bomb_is_refused_or_cheap(served: Served, query: str) -> None:
    await served.rig.write(3, text="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
    async with asyncio.timeout(DEADLINE), served.get(query) as response:
        assert response.status in {200, 400}
    await is_served(served)


INJECTIONS = ("\r\nX-Evil: 1", "\n\ndata: evil", "\r\ndata: evil", "%0d%0aX-Evil: 1", "\x00", "\u2028evil")


def parameters() -> Iterator[tuple[str, str, str]]:
    """Method, path and name of every parameter in a URL's query that the API has."""
    for path, operations in document()["paths"].items():
        for method in operations.keys() - {"parameters"}:
            for parameter in operations[method].get("parameters", ()):
                if parameter["in"] == "query":
                    yield method, path, parameter["name"]


async def is_harmless(asking: Any, what: tuple[str, ...]) -> None:
    """Neither a header nor an event of the answer is the client's."""
    async with asking as response:
        assert response.status in {200, 201, 400, 403, 404, 409, 422}, (response.status, *what)
        assert "X-Evil" not in response.headers, what
        assert not re.search(r"[\r\n]data: evil", await response.text()), what


async def test_line_breaks_in_parameters_reach_no_header_and_no_event(served: Served) -> None:
    await served.rig.write(1)
    session = (await opened(served)).rpartition("/")[2]
    every = list(parameters())
    assert len(every) > 40
    for injection in INJECTIONS:
        for method, path, name in every:
            url = served.url + path.format(app=served.name, session=session, drain="none")
            body = {"data": "line\n"} if method == "post" else {}
            asked = served.client.request(method, url, params={name: f"x{injection}"}, headers=SSE, **body)
            await is_harmless(asked, (url, name))


async def test_line_breaks_in_paths_reach_no_header_and_no_event(served: Served) -> None:
    await served.rig.write(1)
    asked = 0
    for path, operations in document()["paths"].items():
        for part in re.findall(r"{(\w+)}", path):
            for method, injection in product(operations.keys() - {"parameters"}, INJECTIONS):
                parts = {"app": served.name, "session": "none", "drain": "none", part: quote(f"x{injection}", safe="")}
                url = URL(served.url + path.format(**parts), encoded=True)
                await is_harmless(served.client.request(method, url, headers=SSE), (method, path, part))
                asked += 1
    assert asked > 100


async def test_line_breaks_in_bodies_reach_no_header_and_no_event(served: Served) -> None:
    await served.rig.write(1)
    base = f"{served.url}/apps/{served.name}"
    async with served.client.post(f"{base}/log-drains", json={"url": "https://logs.example.com/"}) as response:
        drain = (await response.json())["id"]
    for injection in INJECTIONS:
        evil = f"x{injection}"
        url = f"https://logs.example.com/{evil}"
        drains = [
            {"url": url},
            {"url": url, "filter": {"process": [evil]}},
            {"url": url, "ordered": evil},
            {evil: evil},
        ]
        asks = [(method, path, body) for method, path in DRAINED for body in drains]
        asks += [("post", "/log-sessions", {name: evil}) for name in ("dyno", "type", "source", "lines", "tail")]
        for method, path, body in asks:
            await is_harmless(served.client.request(method, base + path.format(drain), json=body), (path, str(body)))
    await is_harmless(served.client.get(f"{base}/log-drains"), ("all drains",))


DRAINED = (("post", "/log-drains"), ("put", "/log-drains/{}"))
HEADERS = ("Last-Event-ID", "Idempotency-Key", "Logsvc-Tenant", "Accept", "Accept-Encoding", "Authorization", "Origin")
HEADERS += ("Content-Type", "Content-Encoding", "Expect", "Host", "X-Forwarded-For")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_line_breaks_in_headers_reach_no_header_and_no_event(served: Served, method: str) -> None:
    """As they can stand in one: folded, bare, coded."""
    await served.rig.write(1)
    values = ("\r\n X-Evil: 1", "\rX-Evil: 1", "%0d%0aX-Evil: 1", "\x00X-Evil: 1", "\u2028data: evil", "\x85data: evil")
    for name, value in product(HEADERS, values):
        head = f"{method} /v1/apps/{served.name}/logs HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n"
        more = "" if name == "Host" else "Host: localhost\r\n"
        reader, writer = await connect(served, f"{head}{more}{name}: x{value}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
        assert re.match(rb"HTTP/1\.[01] (200|4\d\d) ", answer), (name, value, answer)
        assert not re.search(rb"[\r\n](X-Evil|data: evil)", answer), (name, value)


async def test_returns_in_lines_make_no_event_of_their_own(served: Served) -> None:
    evil = b"first\rdata: evil\r\r id: 9.9.9.9\r\nsecond\n"
    headers = {"Content-Type": "text/plain"}
    async with served.client.post(served.logs, data=evil, headers=headers) as response:
        assert response.status == 200
    address = await opened(served)
    for url, given in ((served.logs, SSE), (address, SSE), (served.logs, {}), (address, {})):
        async with served.client.get(url, headers=given) as response:
            body = await response.read()
            assert b"\r" not in body
            assert b"\ndata: evil" not in body
            assert b"\nid: 9.9.9.9" not in body


async def test_every_address_of_the_api_refuses_another_tenants_names_cursors_and_signatures(site: Guarded) -> None:
    """Each answers as if the app weren't there, whatever else of it is known."""
    served, client = site.served, site.served.client
    scopes = "logs:read logs:write drains:write"
    theirs = site.header(tenant="other", scope=scopes)
    drains = f"{served.url}/apps/{served.name}/log-drains"
    async with client.post(drains, json={"url": "syslog://m0"}, headers=site.header(scope=scopes)) as response:
        drain = (await response.json())["id"]
    cursor = str(served.rig.lines[0].cursor)
    refused = 0
    for path, operations in document()["paths"].items():
        if "{app}" not in path:
            continue
        url = served.url + path.replace("{app}", served.name).replace("{drain}", drain)
        for method in operations.keys() - {"parameters"}:
            if (path, method) == ("/v1/apps/{app}/logs", "post") or path == "/apps/{app}/log-drains":
                continue  # means an app of that name in one's own tenant: see test_tokens.py, test_drains.py
            # An operator's request is refused for want of the scope, whoever's the app is.
            expected = 403 if (path, method) == ("/v1/apps/{app}/logs", "delete") else 404
            for more in ({}, {"Last-Event-ID": cursor}, {"Logsvc-Tenant": "local"}):
                async with client.request(method, url, headers={**theirs, **more}) as response:
                    assert response.status == (403 if "Logsvc-Tenant" in more else expected), (path, more)
                    assert "m0" not in str(await problem_of(response))
                    refused += 1
    assert refused >= 12
    async with client.post(served.logs, data="mine\n", headers=theirs) as response:
        assert response.status == 200
    for query in (f"?after={cursor}", f"?before={served.rig.lines[2].cursor}", "?since=100w", ""):
        async with client.get(served.logs + query, headers=theirs) as response:
            text = await response.text()
            assert all(f"m{number}" not in text for number in range(3))
    address = await opened(served, site.header())
    payload, _, signature = address.rpartition("/")[2].partition(".")
    own = (await opened(served, theirs)).rpartition("/")[2]
    for forged in (f"{payload}.{own.partition('.')[2]}", f"{own.partition('.')[0]}.{signature}"):
        async with client.get(f"{served.url}/v1/log-sessions/{forged}") as response:
            assert response.status == 403


async def deaf(served: Served, query: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for lines, and read nothing of them; so little is on the way that it isn't held by the kernel."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(f"GET /v1/apps/{served.name}/logs?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer


async def test_answers_that_are_never_read_are_held_to_a_step(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lines are let go of, and read again by a client that goes on."""
    monkeypatch.setattr("logsvc.api.delivery.SLOW", 0.1)
    deliveries: list[Delivery] = []
    opening = Delivery.open

    async def noted(delivery: Delivery) -> None:
        await opening(delivery)
        deliveries.append(delivery)

    monkeypatch.setattr(Delivery, "open", noted)
    for _ in range(40):
        await served.rig.write(100, text="x" * 1000)
    tracemalloc.start()
    try:
        stuck = [await deaf(served, f"num=5000{tail}") for tail in ("", "&tail=1") * 5]
        await until(lambda: len(deliveries) == 10 and not any(delivery._backlog for delivery in deliveries))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 10 * 2_000_000
    async with asyncio.timeout(DEADLINE):
        lines = (await stuck[0][0].read()).partition(b"\r\n\r\n")[2].splitlines()
    assert [line.rpartition(b" ")[2].decode() for line in lines] == served.all()
    for _, writer in stuck:
        writer.transport.abort()
    await until(lambda: served.context.tails == 0)


async def test_a_client_that_takes_nothing_is_let_go_but_not_a_tail(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.api.logs.STALLED", 0.5)
    for _ in range(40):
        await served.rig.write(100, text="x" * 1000)
    answers = served.context.access.limits._answers
    stuck = [await deaf(served, f"num=5000{tail}") for tail in ("&tail=1", "")]
    await until(lambda: answers)
    await until(lambda: not answers)
    assert served.context.tails == 1
    for _, writer in stuck:
        writer.transport.abort()
    await until(lambda: served.context.tails == 0)


async def test_a_client_that_takes_a_little_now_and_then_is_waited_for() -> None:
    """Many times as long as one that takes nothing."""

    class Slow:
        """A connection of which a byte is taken whenever somebody looks, and which is let go of by nobody."""

        left = 40
        taken = asyncio.Event()

        def get_write_buffer_size(self) -> int:
            self.left -= 1
            if not self.left:
                self.taken.set()
            return self.left

        async def drain(self) -> None:
            await self.taken.wait()

    slow = Slow()
    request: Any = SimpleNamespace(writer=slow)
    transport: Any = slow
    async with asyncio.timeout(DEADLINE):
        await _drain(request, transport, patience=0.01)
    assert slow.left <= 0


async def test_a_tail_that_is_never_read_is_held_to_its_buffer(served: Served) -> None:
    await served.rig.write(1)
    request = f"GET /v1/apps/{served.name}/logs?tail=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    stuck: list[Any] = [await connect(served, request) for _ in range(20)]
    await until(lambda: served.context.tails == 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        await served.rig.write(20, text="x" * 5000)
    await is_served(served)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    for _, writer in stuck:
        writer.transport.abort()
    await until(lambda: served.context.tails == 0)
