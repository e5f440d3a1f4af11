"""Kubernetes' API server over HTTPS: get, list, watch, create and update, as JSON, and the logs of containers.

Source: Kubernetes API Concepts (kubernetes.io/docs/reference/using-api/api-concepts), of 1.34. aiohttp and not a client
library for Kubernetes: see ADR 0014.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import aiohttp
import orjson

from logsvc.errors import ClusterAway, ClusterError, ConfigError, Expired, MissingRight, NoLog
from logsvc.sources.kubernetes.objects import Json

_PAGE: Final = 500
"""Objects in one answer to a list."""

_MAX_EVENT: Final = 16 * 1024 * 1024
"""Bytes in one event; etcd takes objects of 1.5 MiB at most."""

_ANSWER: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)

_WRITTEN: Final = aiohttp.ClientTimeout(total=5)

_SILENCE: Final = 120.0
"""Seconds without a byte after which a watch is opened anew. Bookmarks come about once a minute."""

_QUIET: Final = 900.0
"""Seconds without a line after which a log is asked for anew, as nothing tells whether anybody is still there."""

_READ: Final = 32 * 1024
"""Bytes of an answer after which no more is read until somebody has taken them; up to twice as many are held."""

_METHODS: Final = {"create": "POST", "update": "PUT"}
_ANSWERS: Final = {"get": {200, 404}, "create": {201, 409}, "update": {200, 404, 409}}
"""By verb, those that are no errors; 200 alone for others."""

_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the API server is, and who asks."""

    url: str
    ca_file: Path | None
    """PEM file of the authority that signed its certificate; None for those of the system."""
    token_file: Path
    """Read anew for each request: the kubelet renews it."""


class Resource(NamedTuple):
    """A kind of objects."""

    group: str
    """Empty for the core."""
    version: str
    name: str
    """In the plural, as in paths and roles."""
    metadata: bool = False
    """Ask for the objects' metadata and no more."""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Of all objects, or of one, whose name has to be one that there can be: `is_name`."""
        api = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{api}{scope}/{self.name}" + (f"/{quote(name, safe='')}" if name else "")


def is_name(name: str) -> bool:
    """Whether there can be an object of that name.

    A name that comes out of another object was written by a tenant, and asking for it must not lead elsewhere.
    Source: `IsValidPathSegmentName` of apimachinery/pkg/api/validation/path, 1.34.
    """
    return name not in {"", ".", ".."} and not {"/", "%"} & set(name)


PODS: Final = Resource("", "v1", "pods")
NAMESPACES: Final = Resource("", "v1", "namespaces", metadata=True)
JOBS: Final = Resource("batch", "v1", "jobs", metadata=True)
ALL_JOBS: Final = Resource("batch", "v1", "jobs")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
EVENTS: Final = Resource("", "v1", "events")
LOGS: Final = Resource("", "v1", "pods/log")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")


class LogRequest(NamedTuple):
    """Which part of which log."""

    namespace: str
    pod: str
    container: str
    previous: bool = False
    """Of the run before the newest one."""
    tail: int = 0
    """Begin so many lines before the end, counted as the runtime wrote them; 0: where the newest file begins."""
    follow: bool = False
    """Go on with what is written from now on, until the run ends."""
    limit: int = 0
    """Give no more bytes than that; 0: all."""


class Listing(NamedTuple):
    """All objects of a kind at one moment."""

    objects: list[Json]
    version: str
    """The resource version to watch from."""


class ApiServer:
    """One connection pool to the API server."""

    def __init__(self, settings: ApiSettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ApiSettings) -> AsyncIterator["ApiServer"]:
        """Connections are made when they are needed. Raises ConfigError where a file can't be used."""
        try:
            trust = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{settings.ca_file} can't be used as the API server's authority: {error}") from error
        # Every log that is followed keeps a connection.
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(settings.url, connector=connector, read_bufsize=_READ) as session:
            yield cls(settings, session)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """One object; None where there is none, or can be none of that name. Raises ClusterError."""
        if not is_name(name):
            return None
        accept = _METADATA if resource.metadata else "application/json"
        async with self._request("get", resource, resource.path(namespace, name), {}, accept) as response:
            return None if response.status == 404 else _object(await response.read())

    async def create(self, resource: Resource, namespace: str, item: Json) -> Json | None:
        """A new object, as it is now; None where there is one of that name. Raises ClusterError."""
        return await self._write("create", resource, resource.path(namespace), item)

    async def replace(self, resource: Resource, namespace: str, item: Json) -> Json | None:
        """An object, as it is now; None where it isn't any more what `item` was made from. Raises ClusterError."""
        return await self._write("update", resource, resource.path(namespace, item["metadata"]["name"]), item)

    async def _write(self, verb: str, resource: Resource, path: str, item: Json) -> Json | None:
        async with self._request(verb, resource, path, {}, "application/json", _WRITTEN, item) as response:
            return None if response.status in {404, 409} else _object(await response.read())

    async def list(self, resource: Resource, selector: str = "", *, newest: bool = False) -> Listing:
        """All objects, in all namespaces, that a field selector takes. Raises ClusterError; Expired: begin again.

        Not `newest`: from the API server's memory, which may be a little behind, and which costs etcd nothing.
        """
        accept = _METADATA_LIST if resource.metadata else "application/json"
        query = {"limit": str(_PAGE)} | ({"fieldSelector": selector} if selector else {})
        objects: list[Json] = []
        given = query if newest else query | {"resourceVersion": "0"}
        while True:
            async with self._request("list", resource, resource.path(), given, accept) as response:
                page = _object(await response.read())
            objects += page["items"]
            if not (more := page["metadata"].get("continue")):
                return Listing(objects, page["metadata"]["resourceVersion"])
            given = query | {"continue": more}

    async def watch(self, resource: Resource, version: str, selector: str = "") -> AsyncGenerator[Json, None]:
        """Events from `version` on, until the server ends it, as it does every few minutes.

        Raises ClusterError; Expired: the server has forgotten what was after `version`.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(300, 600)),  # noqa: S311 - spreads clients out, guards nothing
        }
        if selector:
            query["fieldSelector"] = selector
        accept = _METADATA if resource.metadata else "application/json"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE)
        async with self._request("watch", resource, resource.path(), query, accept, timeout) as response:
            async for line in _lines(response.content):
                yield _event(line)

    @asynccontextmanager
    async def log(self, wanted: LogRequest) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a log, for the block: lines of `<RFC 3339 time> <message>`, of stdout and stderr mixed.

        Times have 9 digits of fraction, and are UTC. Where they end without an error, the log does. Raises NoLog,
        ClusterError, at once or while they are read.
        """
        path = Resource("", "v1", "pods").path(wanted.namespace, wanted.pod) + "/log"
        query = {"container": wanted.container, "timestamps": "true", "follow": str(wanted.follow).lower()}
        query |= {"previous": "true"} if wanted.previous else {}
        query |= {"tailLines": str(wanted.tail)} if wanted.tail else {}
        query |= {"limitBytes": str(wanted.limit)} if wanted.limit else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_QUIET)
        async with self._request("get", LOGS, path, query, "*/*", timeout) as response:
            if response.status == 404:
                raise NoLog(_message(await response.read()))
            yield response.content.iter_any()

    @asynccontextmanager
    async def _request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str],
        accept: str,
        timeout: aiohttp.ClientTimeout = _ANSWER,
        item: Json | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {await self._token()}", "Accept": accept}
        if item is not None:
            headers["Content-Type"] = "application/json"
        method, data = _METHODS.get(verb, "GET"), orjson.dumps(item) if item is not None else None
        try:
            async with self._session.request(
                method, path, params=query, headers=headers, timeout=timeout, data=data
            ) as response:
                if response.status not in _ANSWERS.get(verb, {200}):
                    raise _refused(response.status, _message(await response.read()), verb, resource)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = str(error) or type(error).__name__
            raise ClusterAway(f"the API server at {self._settings.url} doesn't answer: {what}") from error

    async def _token(self) -> str:
        try:
            return (await asyncio.to_thread(self._settings.token_file.read_text)).strip()
        except OSError as error:
            raise ClusterAway(f"{self._settings.token_file} can't be read: {error.strerror}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not its readline(), which refuses lines of 64 KiB and more.
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _MAX_EVENT:
            raise ClusterError("the API server sends an event without an end")


def _object(body: bytes) -> Json:
    try:
        found: Json = orjson.loads(body)
    except ValueError as error:
        raise ClusterError("the API server's answer is not JSON") from error
    return found


def _event(line: bytes) -> Json:
    event = _object(line)
    if event["type"] == "ERROR":
        status = event["object"]
        if status.get("code") == 410:
            raise Expired(status.get("message", ""))
        raise ClusterAway(f"the API server ends a watch: {status.get('message')}")
    return event


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def rule(resource: Resource, verbs: Sequence[str]) -> str:
    """As it stands in a role."""
    quoted = ", ".join(f'"{verb}"' for verb in verbs)
    return f'- {{apiGroups: ["{resource.group}"], resources: ["{resource.name}"], verbs: [{quoted}]}}'


def _refused(status: int, message: str, verb: str, resource: Resource) -> ClusterError:
    match status:
        case 401:
            return ClusterError(f"the API server doesn't know the token: {message}")
        case 403:
            return MissingRight(
                f"the API server refuses to {verb} {resource.name}. What is missing in the rules of the "
                f"{'Role' if resource is LEASES else 'ClusterRole'}: {rule(resource, [verb])} (it says: {message})"
            )
        case 410:
            return Expired(message)
        case 400 if resource is LOGS:
            return NoLog(message)
        case 429 | 500 | 502 | 503 | 504:
            return ClusterAway(f"the API server is busy or not ready ({status}): {message}")
        case _:
            return ClusterError(f"the API server refuses to {verb} {resource.name} ({status}): {message}")
