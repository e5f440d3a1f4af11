"""Keeps up with all objects of one kind: a list, then a watch from there on, for as long as it takes."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from logsvc.errors import ClusterAway, ClusterError, Expired
from logsvc.sources.kubernetes.apiserver import ApiServer, Resource
from logsvc.sources.kubernetes.objects import Json
from logsvc.waiting import keep_up

_SHORT: Final = 1.0
"""Seconds below which the end of a watch that told nothing is trouble."""


class Follower:
    """Hands on what there is, what changes and what goes; never the same state of an object twice.

    What changed while nobody was connected comes out of the next list, so a state in between may not be seen.
    """

    def __init__(
        self,
        api: ApiServer,
        resource: Resource,
        keep: Callable[[Json], None],
        drop: Callable[[str], None],
        selector: str = "",
    ) -> None:
        """`keep` is given an object that is new or has changed, `drop` the uid of one that is gone."""
        self._api = api
        self._resource = resource
        self._selector = selector
        self._keep, self._drop = keep, drop
        self._versions: dict[str, str] = {}
        """By uid, of every object that there is."""
        self._version = ""
        """To watch from; empty where a list has to come first."""
        self._expired = False
        self.listed = asyncio.Event()
        """Everything that there was when it began has been handed on."""
        self.connected = False
        """Nothing but the way from the API server to here lies between what there is and what was handed on."""

    async def run(self) -> None:
        """Follow until cancelled; what the API server refuses is tried again."""
        await keep_up(self._follow, f"the watch of {self._resource.name}", (ClusterError,))

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if not self._version:
                await self._list()
            begin, told = clock(), False
            try:
                async with aclosing(self._api.watch(self._resource, self._version, self._selector)) as events:
                    async for event in events:
                        told = True
                        self._take(event)
            except Expired:
                self._version, self._expired = "", True
                raise
            finally:
                self.connected = False
            if not told and clock() - begin < _SHORT:
                raise ClusterAway(f"the API server ends the watch of {self._resource.name} at once")

    async def _list(self) -> None:
        # Where the server has forgotten a version, what it has in memory may be older than what was seen already.
        listing = await self._api.list(self._resource, self._selector, newest=self._expired)
        present = {item["metadata"]["uid"] for item in listing.objects}
        for uid in self._versions.keys() - present:
            self._gone(uid)
        for item in listing.objects:
            self._changed(item)
        self._version, self._expired = listing.version, False
        self.connected = True
        self.listed.set()

    def _take(self, event: Json) -> None:
        self.connected = True
        item = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._changed(item)
            case "DELETED":
                self._changed(item)
                self._gone(item["metadata"]["uid"])
        self._version = item["metadata"]["resourceVersion"]

    def _changed(self, item: Json) -> None:
        metadata = item["metadata"]
        if self._versions.get(metadata["uid"]) != metadata["resourceVersion"]:
            self._versions[metadata["uid"]] = metadata["resourceVersion"]
            self._keep(item)

    def _gone(self, uid: str) -> None:
        if self._versions.pop(uid, None) is not None:
            self._drop(uid)
