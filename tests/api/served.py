"""A served rig and its client's view: requests, and answers read as they come."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson

from logsvc.api.context import LOCAL_TENANT, Access, Context, Drains
from logsvc.api.server import listening
from logsvc.config import Drains as DrainSettings
from logsvc.drains.addresses import Addresses
from logsvc.drains.local import LocalDrains
from logsvc.drains.outbound import Outbound
from logsvc.drains.trial import send_test
from logsvc.service.purging import LocalPurges
from logsvc.sources.push import PushSource
from logsvc.store.protocol import Store
from logsvc.timeline import Tiers
from tests.support.eventstream import Event, EventStream
from tests.support.tiers import Rig, rig
from tests.support.wait import DEADLINE

NDJSON = {"Accept": "application/x-ndjson"}
SSE = {"Accept": "text/event-stream"}


class Served:
    """A rig, the address where it is served, and a client."""

    def __init__(self, made: Rig, context: Context, url: str, client: aiohttp.ClientSession) -> None:
        self.rig, self.context, self.url, self.client = made, context, url, client
        self.name = made.app.app

    @property
    def logs(self) -> str:
        return f"{self.url}/v1/apps/{self.name}/logs"

    def get(self, query: str = "", **headers: str) -> Any:
        """GET of the app's lines; names of headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(f"{self.logs}?{query}", headers=named)

    async def messages(self, query: str = "", **headers: str) -> list[str]:
        """The messages of a complete answer."""
        return [line["message"] for line in await self.objects(query, **headers) if "message" in line]

    async def objects(self, query: str = "", **headers: str) -> list[dict[str, Any]]:
        """The objects of a complete NDJSON answer."""
        async with self.get(query, **NDJSON, **headers) as response:
            assert response.status == 200, await response.text()
            return [orjson.loads(line) for line in (await response.read()).splitlines()]

    async def problem(self, query: str = "", **headers: str) -> dict[str, Any]:
        """The problem document of a refused request."""
        async with self.get(query, **headers) as response:
            return await problem_of(response)

    def all(self) -> list[str]:
        return [message.decode() for message in self.rig.messages()]


async def problem_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json", await response.text()
    document: dict[str, Any] = orjson.loads(await response.read())
    assert document["status"] == response.status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    return document


class Lines:
    """The lines of an answer as they come, whatever its representation."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> bytes:
        """The next line without its newline; empty at the end."""
        async with asyncio.timeout(DEADLINE):
            return (await self._response.content.readline()).removesuffix(b"\n")

    async def take(self, count: int) -> list[bytes]:
        return [await self.next() for _ in range(count)]

    async def object(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(await self.next())
        return document


class Events:
    """The events of an answer as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.stream = EventStream()
        self._waiting: list[Event] = []

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        async with asyncio.timeout(DEADLINE):
            while not self._waiting:
                data = await self._response.content.readany()
                if not data:
                    return None
                self._waiting += self.stream.feed(data)
        return self._waiting.pop(0)

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """So many lines, or a few more: those of whole events."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.next()
            assert event is not None
            assert event.type == "message"
            found += [orjson.loads(line) for line in event.data.split("\n")]
        return found


@asynccontextmanager
async def kept_drains() -> AsyncIterator[Drains]:
    """None at first; they may reach this machine, by HTTP too."""
    settings = DrainSettings.model_validate({"http": True, "allow": ["127.0.0.0/8"]})
    with TemporaryDirectory() as folder:
        async with LocalDrains.open(Path(folder)) as registry, Outbound.open(settings) as outbound:
            yield Drains(
                registry, partial(send_test, outbound=outbound), Addresses(settings.allow), unencrypted=settings.http
            )


@asynccontextmanager
async def serving(
    store: Store,
    *,
    heartbeat: float = 15.0,
    max_tails: int = 100,
    grace: float = 5.0,
    name: str | None = None,
    access: Access | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve a new rig; `name` is the app, where it has to be one that was served before."""
    async with AsyncExitStack() as stack:
        options = {"tenant": LOCAL_TENANT, "heartbeat": heartbeat, **options}
        made = await stack.enter_async_context(rig(store, **options))
        if name is not None:
            made.app = made.app._replace(app=name)
        push = PushSource(made.bus, store)
        removing = LocalPurges(made.bus, made.folder / "purges")
        tiers = Tiers(made.bus, store, made.router, purges=removing.purges)
        drains = await stack.enter_async_context(kept_drains())
        context = Context(
            tiers, push, removing.remove, drains, access or Access(), heartbeat=heartbeat, max_tails=max_tails
        )
        removing.purges.follow(context.forget)
        client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=True))
        url = await stack.enter_async_context(listening(context, "127.0.0.1", 0, grace))
        context.ready.set()
        try:
            yield Served(made, context, url, client)
        finally:
            await stop(made, context)


async def stop(made: Rig, context: Context) -> None:
    """Begin to stop, as the service does."""
    context.stopping.set()
    made.router.wake()


def only(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names}
