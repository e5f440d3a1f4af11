"""Run a Procfile: the release step first, then every process, until told to stop."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from logsvc.errors import ConfigError
from logsvc.sources.procfile.crilog import CriLog
from logsvc.sources.procfile.dyno import DynoKeeper, ProcessEvent, State, Surroundings
from logsvc.sources.procfile.formation import Dyno, RunnerSettings, base_port, environment, plan
from logsvc.sources.procfile.parse import Entry, read_env, read_procfile
from logsvc.sources.procfile.rotation import compress_one, drop_oldest


class ProcfileRunner:
    """The processes of one Procfile, once.

    `run()` is awaited in a TaskGroup of the caller's; `stop()` ends it. Cancelling `run()` kills what runs.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        settings: RunnerSettings,
        *,
        directory: Path,
        variables: Mapping[str, str] | None = None,
        on_event: Callable[[ProcessEvent], None] = lambda _: None,
        collected: Callable[[Path], bool] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`directory`: where commands run. `variables`: of `.env`. `on_event`: called with each platform line.

        `collected` says of a rotated file, or one of an old restart, whether every byte of it is in the bus; only then
        is it deleted. It is called in a thread. Where twice `keep_rotated` files of a process wait, the process waits
        too. By default nobody is asked, as the kubelet has it.

        Raises ConfigError where scale, ports or variables don't fit the Procfile.
        """
        variables = variables or {}
        self.release, self.dynos = plan(entries, settings.scale, base_port(variables, settings.base_port))
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._janitor = _Janitor(settings.keep_rotated, collected)
        around = Surroundings(
            settings=settings,
            directory=directory,
            run=clock(),
            stopping=self._stopping,
            rotated=self._janitor.rotated,
            collected=collected,
            tell=on_event,
            clock=clock,
        )
        web_port = next((dyno.port for dyno in self.dynos if dyno.process == "web"), None)

        def keeper(dyno: Dyno) -> DynoKeeper:
            return DynoKeeper(dyno, environment(dyno, os.environ, variables, web_port), around)

        self._release = keeper(self.release) if self.release else None
        self._keepers = [keeper(dyno) for dyno in self.dynos]

    @classmethod
    def of_file(
        cls,
        procfile: Path,
        settings: RunnerSettings,
        on_event: Callable[[ProcessEvent], None] = lambda _: None,
        collected: Callable[[Path], bool] | None = None,
    ) -> "ProcfileRunner":
        """A runner of a Procfile and the `.env` beside it. Raises ConfigError."""
        directory = procfile.resolve().parent
        return cls(
            read_procfile(procfile),
            settings,
            directory=directory,
            variables=read_env(directory / ".env"),
            on_event=on_event,
            collected=collected,
        )

    @property
    def states(self) -> dict[str, State]:
        """The state of each dyno by name, the release step included."""
        keepers = [self._release, *self._keepers] if self._release else self._keepers
        return {keeper.dyno.name: keeper.state for keeper in keepers}

    async def run(self) -> int | None:
        """Run until `stop()`; None then, or the release step's exit status where it failed: nothing else is started.

        When this returns nothing runs any more, and every line that was written is in a log file. Raises ConfigError
        where the pods folder can't be written to.
        """
        self._ended.clear()
        try:
            await asyncio.to_thread(self._prepare)
            async with asyncio.TaskGroup() as tasks:
                janitor = tasks.create_task(self._janitor.run())
                try:
                    return await self._run()
                finally:
                    self._janitor.stop()
                    await asyncio.wait([janitor])
        finally:
            self._ended.set()

    def _prepare(self) -> None:
        try:
            for keeper in [self._release, *self._keepers]:
                if keeper is not None:
                    keeper.prepare()
        except OSError as error:
            raise ConfigError(f"{error.filename}: can't be written to: {error.strerror}") from error

    async def _run(self) -> int | None:
        if self._release is not None and not self._stopping.is_set():
            status = await self._release.run_once()
            if status and not self._stopping.is_set():
                return status
        if not self._stopping.is_set():
            async with asyncio.TaskGroup() as dynos:
                for keeper in self._keepers:
                    dynos.create_task(keeper.keep_running(), name=keeper.dyno.name)
                dynos.create_task(self._stopping.wait())
        return None

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL after the grace time; returns when `run()` is done."""
        self._stopping.set()
        await self._ended.wait()


class _Janitor:
    """Compresses and deletes rotated files, one at a time, in a thread. What waits is at most each log once."""

    def __init__(self, keep: int, collected: Callable[[Path], bool] | None) -> None:
        self._keep = keep
        self._collected = collected
        self._waiting: dict[CriLog, None] = {}
        self._wake = asyncio.Event()
        self._stopped = False

    def rotated(self, log: CriLog) -> None:
        self._waiting[log] = None
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    async def run(self) -> None:
        while not self._stopped:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._stopped:
                log = next(iter(self._waiting))
                del self._waiting[log]
                # A full disk, or a log that went meanwhile: it is tried again at the next rotation.
                with contextlib.suppress(OSError):
                    await self._tidy(log)

    async def _tidy(self, log: CriLog) -> None:
        rotations = log.rotations
        left = await asyncio.to_thread(drop_oldest, log.path, self._keep, self._collected)
        # What was rotated meanwhile may be counted twice, until the next time.
        log.left = left + log.rotations - rotations
        if not log.crowded:
            log.room()
        if await asyncio.to_thread(compress_one, log.path):
            # One file a turn: others wait no longer than that takes.
            self.rotated(log)
