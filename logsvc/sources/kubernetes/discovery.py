"""Finds the folders of pods and containers, and says when something is made, renamed or deleted in one.

What no event told comes out when somebody looks.
"""

import asyncio
import logging
import os
import stat
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from logsvc.sources.kubernetes.podlogs import Pod, folder, subfolders
from logsvc.sources.kubernetes.watch import Handler, Watcher

SLICE: Final = 50
"""Folders looked at before others get their turn."""

logger = logging.getLogger(__name__)


class Finder(Protocol):
    """Who is told."""

    def found(self, pod_folder: str, container: str, pod: Pod) -> None:
        """There is a folder that wasn't known."""

    def changed(self, pod_folder: str, container: str) -> None:
        """A known folder isn't as it was, or is gone."""

    def unwatched(self) -> None:
        """The kernel doesn't watch a folder."""


class Discovery:
    """The folders below one like `/var/log/pods`."""

    def __init__(self, root: int, watcher: Watcher, finder: Finder) -> None:
        """`root`: descriptor of the folder of all pods."""
        self._root = root
        self._watcher = watcher
        self._finder = finder
        self._pods: dict[str, int] = {}
        """Folders of pods with the mtime they had when they were listed."""
        self._containers: dict[str, set[str]] = {}
        """By pod's folder, those that were found and are not done."""
        self.folders: dict[str, str] = {}
        """By uid, the name of the pod's folder: no other with that uid is read, as places in logs are kept by it."""
        self._refused: set[str] = set()
        self._watched: set[str] = set()
        """Folders that the kernel watches."""
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Find new pods and containers."""
        async with self._looking:
            self._watch(self._root, "", self._pods_changed)
            names, refused = await asyncio.to_thread(subfolders, self._root)
            self._refuse("", refused)
            for name in {*self._pods, *self.folders.values()} - set(names):
                self._forget(name)
            for number, name in enumerate(names):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    mtime = os.stat(name, dir_fd=self._root, follow_symlinks=False).st_mtime_ns
                    if self._pods.get(name) != mtime:
                        self._look_at(name)
                if number % SLICE == 0:
                    await asyncio.sleep(0)

    def has(self, pod_folder: str, container: str) -> bool:
        """Whether a container's folder is there, or may be."""
        try:
            os.stat(f"{pod_folder}/{container}", dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            pass
        return True

    def gone(self, pod_folder: str, container: str) -> None:
        """The folder was deleted, and the kernel's watch with it; one of the same name is watched anew."""
        self._watched.discard(f"{pod_folder}/{container}")

    def done(self, pod_folder: str, container: str) -> None:
        """Nobody wants to hear of that folder any more; if there is one of that name again, it is found."""
        containers = self._containers[pod_folder]
        containers.discard(container)
        if not containers:
            del self._containers[pod_folder]
            self._release(pod_folder)

    def _pods_changed(self, name: str) -> None:
        """Look at that pod alone: of very many pods that come at once, each is an event."""
        try:
            mode = os.stat(name, dir_fd=self._root, follow_symlinks=False).st_mode
        except OSError:
            self._forget(name)
        else:
            if stat.S_ISDIR(mode):
                self._look_at(name)
            elif stat.S_ISLNK(mode):
                self._refuse("", [name])

    def _pod_changed(self, name: str, _: str) -> None:
        self._look_at(name)

    def _container_changed(self, pod_folder: str, container: str, _: str) -> None:
        # The kernel may tell of a deleted folder when all that was in it is read and done with.
        if container in self._containers.get(pod_folder, ()):
            self._finder.changed(pod_folder, container)

    def _forget(self, name: str) -> None:
        """A pod's folder is gone; what was open of it still is."""
        self._pods.pop(name, None)
        self._watched.discard(name)
        self._release(name)

    def _release(self, name: str) -> None:
        """Another folder may have the uid of one that is gone and read to its end."""
        pod = Pod.parse(name)
        held = name in self._pods or name in self._containers
        if pod is not None and not held and self.folders.get(pod.uid) == name:
            del self.folders[pod.uid]

    def _look_at(self, name: str) -> None:
        pod = Pod.parse(name)
        if pod is None:
            self._refuse("", [name])
            return
        if (other := self.folders.setdefault(pod.uid, name)) != name:
            self._refuse("", [name], f"has the uid of {other}")
            return
        try:
            with folder(self._root, name) as fd:
                self._watch(fd, name, partial(self._pod_changed, name))
                mtime = os.fstat(fd).st_mtime_ns
                containers, refused = subfolders(fd)
        except OSError:
            return  # deleted again, or a link by now
        self._refuse(name + "/", refused)
        self._pods[name] = mtime
        known = self._containers.get(name, set())
        absent = known.difference(containers)
        for container in containers:
            if container not in known:
                self._find(name, container, pod)
        for container in absent:
            self._finder.changed(name, container)

    def _find(self, name: str, container: str, pod: Pod) -> None:
        try:
            with folder(self._root, name, container) as fd:
                self._watch(fd, f"{name}/{container}", partial(self._container_changed, name, container))
        except OSError:
            return
        self._containers.setdefault(name, set()).add(container)
        self._finder.found(name, container, pod)

    def _watch(self, fd: int, name: str, handler: Handler) -> None:
        if name not in self._watched:
            if self._watcher.directory(fd, handler):
                self._watched.add(name)
            else:
                self._finder.unwatched()

    def _refuse(self, prefix: str, names: list[str], why: str = "is not a pod's folder") -> None:
        for name in names:
            if prefix + name not in self._refused:
                self._refused.add(prefix + name)
                logger.warning("%s%s %s and is not read", prefix, name, why)
