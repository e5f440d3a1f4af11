"""An API server over HTTP that fails as it is told to: what a real one does seldom and never when a test wants it.

Lists, watches and versions are as the API concepts of Kubernetes have them. tests/kubernetes has the real one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from logsvc.formats import cri

Json = dict[str, Any]


@dataclass
class Log:
    """One run's log: the file that is there, as lines of `<time> <message>`."""

    lines: list[bytes] = field(default_factory=list)
    over: bool = False
    time: int = 1_795_399_200_000_000_000
    overlooked: bool = False
    """Who follows it hasn't noticed the last rotation, and waits at the end of the file before."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, *messages: bytes, step: int = 1_000_000) -> None:
        for message in messages:
            self.time += step
            self.lines.append(cri.format_time(self.time) + b" " + message + b"\n")
        self._tell()

    def end(self) -> None:
        """The process has exited."""
        self.over = True
        self._tell()

    def rotate(self) -> None:
        """What was written is in a file that the kubelet doesn't give."""
        self.lines = []

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


@dataclass
class FlakyServer:
    """What a test sees and sets."""

    url: str = ""
    version: int = 100
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    """By resource and uid."""
    log: list[tuple[int, str, Json]] = field(default_factory=list)
    """Version, resource, event."""
    forgotten: int = 0
    """Versions up to here are answered with 410."""
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    """Status by verb and resource."""
    ending: str = ""
    """What the next watch is sent before it ends at once."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Verb, resource and query."""
    tokens: list[str] = field(default_factory=list)
    logs: dict[tuple[str, str, int], Log] = field(default_factory=dict)
    """By uid, container and run."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next logs that are given break off."""
    when_asked: Callable[[Mapping[str, str]], None] | None = None
    """Is called with the query before a log is given."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, resource: str, item: Json) -> Json:
        """Create or change an object."""
        known = self.objects.get((resource, item["metadata"]["uid"]))
        return self._tell(resource, "MODIFIED" if known else "ADDED", item)

    def delete(self, resource: str, uid: str) -> None:
        self._tell(resource, "DELETED", self.objects[resource, uid])
        del self.objects[resource, uid]

    def bookmark(self, resource: str) -> None:
        self._tell(resource, "BOOKMARK", {"kind": "Pod", "metadata": {"uid": "bookmark"}})
        del self.objects[resource, "bookmark"]

    def cut(self) -> None:
        """Break all watches off."""
        cut, self._cut = self._cut, asyncio.Event()
        cut.set()

    def forget(self) -> None:
        """No watch goes on from what it knows."""
        self.version += 1
        self.forgotten = self.version
        self.log.clear()

    def count(self, verb: str, resource: str = "pods") -> int:
        return sum(request[:2] == (verb, resource) for request in self.requests)

    def _tell(self, resource: str, kind: str, item: Json) -> Json:
        self.version += 1
        item = item | {"metadata": item["metadata"] | {"resourceVersion": str(self.version)}}
        self.objects[resource, item["metadata"]["uid"]] = item
        self.log.append((self.version, resource, {"type": kind, "object": item}))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return item

    async def answer(self, request: web.Request) -> web.StreamResponse:
        resource, name = request.match_info["resource"], request.match_info.get("name")
        verb = "get" if name else "watch" if "watch" in request.query else "list"
        self.requests.append((verb, resource, dict(request.query)))
        self.tokens.append(request.headers["Authorization"])
        if status := self.refused.get((verb, resource)):
            text = f'{resource} is forbidden: User "system:serviceaccount:logs:collect" cannot {verb} resource'
            return web.json_response({"kind": "Status", "code": status, "message": text}, status=status)
        if verb == "get":
            return self._get(resource, request.match_info["namespace"], str(name))
        return await self._watch(request, resource) if verb == "watch" else self._list(resource, request.query)

    def _get(self, resource: str, namespace: str, name: str) -> web.Response:
        for (kind, _), item in self.objects.items():
            metadata = item["metadata"]
            if kind == resource and (metadata.get("namespace", ""), metadata["name"]) == (namespace, name):
                return web.json_response(item)
        return web.json_response({"kind": "Status", "code": 404, "message": "not found"}, status=404)

    def _list(self, resource: str, query: Any) -> web.Response:
        items = [item for (kind, _), item in self.objects.items() if kind == resource]
        begin, limit = int(query.get("continue", 0)), 2 if "resourceVersion" not in query else len(items) + 1
        metadata = {"resourceVersion": str(self.version)}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        return web.json_response({"metadata": metadata, "items": items[begin : begin + limit]})

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        begin = int(request.query["resourceVersion"])
        if begin < self.forgotten:
            return web.json_response({"kind": "Status", "code": 410, "message": "too old"}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        if self.ending:
            ending, self.ending = self.ending, ""
            await response.write(ending.encode())
            return response
        cut = asyncio.create_task(self._cut.wait())
        try:
            while not cut.done():
                changed = self._changed
                for version, kind, event in list(self.log):
                    if kind == resource and version > begin:
                        begin = version
                        # In two parts: no part of an answer is a whole event but by chance.
                        line = orjson.dumps(event) + b"\n"
                        await response.write(line[:50])
                        await response.write(line[50:])
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait([cut, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            cut.cancel()
        assert request.transport is not None
        request.transport.abort()
        return response

    async def take(self, request: web.Request) -> web.Response:
        """Create or replace an object, if it is as whoever changes it has seen it."""
        item, resource, name = (
            orjson.loads(await request.read()),
            request.match_info["resource"],
            request.match_info.get("name"),
        )
        verb = "update" if name else "create"
        self.requests.append((verb, resource, {}))
        if status := self.refused.get((verb, resource)):
            return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)
        key = resource, f"{request.match_info['namespace']}/{item['metadata']['name']}"
        known = self.objects.get(key)
        seen = known["metadata"]["resourceVersion"] if known else None
        if item["metadata"].get("resourceVersion") != seen:
            return web.json_response({"kind": "Status", "code": 409, "message": "it has changed"}, status=409)
        given = item | {"metadata": item["metadata"] | {"uid": key[1]}}
        return web.json_response(
            self._tell(resource, "MODIFIED" if known else "ADDED", given), status=200 if name else 201
        )

    async def answer_log(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(("get", "pods/log", dict(request.query)))
        if status := self.refused.get(("get", "pods/log")):
            return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)
        found = self._get("pods", request.match_info["namespace"], request.match_info["name"])
        if found.status == 404:
            return found
        log = self._log(orjson.loads(found.body or b""), request.query)
        if log is None:
            text = "previous terminated container not found"
            return web.json_response({"kind": "Status", "code": 400, "message": text}, status=400)
        if self.when_asked is not None:
            self.when_asked(request.query)
        response = web.StreamResponse()
        await response.prepare(request)
        cut = asyncio.create_task(self._cut.wait())
        try:
            whole = await self._give(response, log, request.query, cut, self.cuts.pop(0) if self.cuts else 1 << 60)
        finally:
            cut.cancel()
        if not whole and request.transport is not None:
            request.transport.abort()
        return response

    def _log(self, pod: Json, query: Any) -> Log | None:
        statuses = pod["status"].get("containerStatuses", [])
        (run,) = [each["restartCount"] for each in statuses if each["name"] == query["container"]]
        return self.logs.get((pod["metadata"]["uid"], query["container"], run - ("previous" in query)))

    async def _give(
        self, response: web.StreamResponse, log: Log, query: Any, cut: "asyncio.Task[bool]", left: int
    ) -> bool:
        """Whether to the end of the log."""
        tail = int(query.get("tailLines", 1 << 60))
        lines, at = log.lines, max(len(log.lines) - tail, 0)
        while not cut.done():
            changed, over = log.changed, log.over
            if log.lines is not lines and not log.overlooked:
                lines, at = log.lines, 0
            data = b"".join(lines[at:])[: int(query.get("limitBytes", 1 << 60))]
            at = len(lines)
            await response.write(data[:left])
            left -= len(data)
            if left < 0:
                return False
            if over or query["follow"] != "true":
                return True
            waiting = asyncio.create_task(changed.wait())
            await asyncio.wait([cut, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        return False


@asynccontextmanager
async def flaky_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FlakyServer]:
    server = FlakyServer()
    app = web.Application()
    for base in ("/api/v1", "/apis/batch/v1", "/apis/apps/v1", "/apis/coordination.k8s.io/v1"):
        app.router.add_get(base + "/{resource}", server.answer)
        app.router.add_get(base + "/namespaces/{namespace}/{resource}/{name}", server.answer)
        app.router.add_put(base + "/namespaces/{namespace}/{resource}/{name}", server.take)
        app.router.add_post(base + "/namespaces/{namespace}/{resource}", server.take)
    app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", server.answer_log)
    listening = TestServer(app)
    await listening.start_server(shutdown_timeout=0.1, ssl=tls)
    server.url = str(listening.make_url("/")).rstrip("/")
    try:
        yield server
    finally:
        server.cut()
        await listening.close()
