"""Keep one dyno running: start, watch, say what happens, start again with backoff, stop."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from logsvc.sources.procfile.crilog import CriLog
from logsvc.sources.procfile.formation import Dyno, RunnerSettings
from logsvc.sources.procfile.identity import Identity
from logsvc.sources.procfile.pump import Pump
from logsvc.sources.procfile.rotation import drop_restarts

_SHIM = Path(__file__).with_name("shim.py")
# Everything that the shim can kill is dead when the process is reported so; the pipes end at once.
_PATIENCE = 5.0
_NOT_STARTED = 126
"""The shell's status of a command that is there and can't be run."""


class State(StrEnum):
    """A dyno's state, in Heroku's words."""

    STARTING = "starting"
    UP = "up"
    CRASHED = "crashed"
    COMPLETE = "complete"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """Something that the platform said of a dyno: for the console. The line itself is in the log too."""

    dyno: str
    state: State
    message: str


class Backoff:
    """Seconds to wait after a crash: doubling, up to a most; from the start again after a good run."""

    def __init__(self, first: float, most: float, settled: float) -> None:
        self._first, self._most, self._settled = first, most, settled
        self._next = first

    def after(self, ran: float) -> float:
        """What to wait after a crash that came `ran` seconds after the start."""
        wait = self._first if ran >= self._settled else self._next
        self._next = min(wait * 2, self._most)
        return min(wait, self._most)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all dynos of a run share."""

    settings: RunnerSettings
    directory: Path
    """Where the commands run: the Procfile's folder."""
    run: int
    """When the run began, Unix ns."""
    stopping: asyncio.Event
    rotated: Callable[[CriLog], None]
    collected: Callable[[Path], bool] | None
    tell: Callable[[ProcessEvent], None]
    clock: Callable[[], int] = time.time_ns


class DynoKeeper:
    """One dyno, one pod, and as many restarts of its container as it takes."""

    def __init__(self, dyno: Dyno, variables: Mapping[str, str], around: Surroundings) -> None:
        """`variables`: the process's whole environment."""
        self.dyno = dyno
        self.state = State.STARTING
        self._variables = variables
        self._around = around
        settings = around.settings
        self._identity = Identity(
            uid=str(uuid4()),
            pod=dyno.pod,
            container=dyno.container,
            tenant=settings.tenant,
            app=settings.app,
            process=dyno.process,
            dyno=dyno.name,
            retention=settings.retention,
            run=around.run,
        )
        self._folder = settings.pods / str(self._identity.folder) / dyno.container

    async def keep_running(self) -> None:
        """Run until the runner stops, and again after every crash; an exit with status 0 is one too."""
        settings, stopping = self._around.settings, self._around.stopping
        backoff = Backoff(settings.backoff_first, settings.backoff_most, settings.settled)
        for restart in itertools.count():
            began = time.monotonic()
            try:
                async with self._container(restart) as pump:
                    await self._process(pump)
                    if stopping.is_set():
                        self._change(pump, State.DOWN)
                        return
                    self._change(pump, State.CRASHED)
                    wait = backoff.after(time.monotonic() - began)
                    self._say(pump, f"Process starts again in {wait:g} s")
            except OSError as error:
                wait = backoff.after(0)
                self._tell(f"Can't keep a log: {error.strerror}: starts again in {wait:g} s")
            await asyncio.to_thread(
                drop_restarts, self._folder, restart + 1, settings.keep_restarts, self._around.collected
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await stopping.wait()
                return

    async def run_once(self) -> int:
        """Run to the end, as a release step; returns the exit status."""
        stopping = self._around.stopping
        try:
            async with self._container(0) as pump:
                status = await self._process(pump)
                self._change(pump, _ended(status, stopped=stopping.is_set()))
                if self.state is State.CRASHED:
                    self._say(pump, f"Release command failed with status {status}: no process is started")
        except OSError as error:
            self.state = State.CRASHED
            self._tell(f"Can't keep a log: {error.strerror}: no process is started")
            return _NOT_STARTED
        return status

    def prepare(self) -> None:
        """Make the pod's folder. Raises OSError. In this order: whoever finds the folder finds out whose it is."""
        self._identity.write(self._around.settings.identities)
        self._folder.mkdir(parents=True)

    @contextlib.asynccontextmanager
    async def _container(self, restart: int) -> AsyncIterator[Pump]:
        """The log of one restart and the pipes into it. At the end the log is complete."""
        around = self._around
        log = CriLog(
            self._folder / f"{restart}.log",
            rotate_bytes=around.settings.rotate_bytes,
            rotated=around.rotated,
            most_rotated=None if around.collected is None else 2 * around.settings.keep_rotated,
            clock=around.clock,
        )
        try:
            pump = Pump(log, lambda reason: self._tell(f"Can't write to the log: {reason}: the process waits"))
        except OSError:
            log.close()
            raise
        try:
            yield pump
            await pump.drain(_PATIENCE, around.stopping)
        finally:
            pump.close()

    async def _process(self, pump: Pump) -> int:
        """Start the process, and stay until it has ended and its last byte is in the log; returns its status."""
        if self.state is not State.STARTING:
            self._change(pump, State.STARTING)
        self._say(pump, f"Starting process with command `{self.dyno.command}`")
        try:
            status = await self._shim(pump)
        except OSError as error:
            self._say(pump, f"Process could not be started: {error.strerror}")
            return _NOT_STARTED
        await pump.drain(_PATIENCE, self._around.stopping)
        self._say(pump, f"Process exited with status {status}")
        return status

    async def _shim(self, pump: Pump) -> int:
        try:
            reading, lifeline = os.pipe()
        except OSError:
            pump.started()
            raise
        shim = None
        try:
            try:
                shim = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(_SHIM), str(reading), self.dyno.command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=pump.stdout,
                    stderr=pump.stderr,
                    pass_fds=[reading],
                    start_new_session=True,
                    cwd=self._around.directory,
                    env=self._variables,
                )
            finally:
                os.close(reading)
                pump.started()
            self._change(pump, State.UP)
            return await self._until_exit(shim, lifeline, pump)
        finally:
            # However this ends, cancelled or not: without its lifeline the shim kills everything.
            os.close(lifeline)
            if shim is not None:
                await shim.wait()

    async def _until_exit(self, shim: asyncio.subprocess.Process, lifeline: int, pump: Pump) -> int:
        """Wait for the end, or bring it about once the runner stops."""
        grace = self._around.settings.grace
        async with asyncio.TaskGroup() as tasks:
            exited = tasks.create_task(shim.wait())
            stopping = tasks.create_task(self._around.stopping.wait())
            await asyncio.wait([exited, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not exited.done():
                self._say(pump, "Stopping all processes with SIGTERM")
                _signal(lifeline, signal.SIGTERM)
                await asyncio.wait([exited], timeout=grace)
            if not exited.done():
                late = f"At least one process failed to exit within {grace:g} seconds of SIGTERM"
                self._say(pump, f"Error R12 (Exit timeout) -> {late}")
                self._say(pump, "Stopping remaining processes with SIGKILL")
                _signal(lifeline, signal.SIGKILL)
        status = exited.result()
        return status if status >= 0 else 128 - status

    def _say(self, pump: Pump, message: str) -> None:
        pump.say(message)
        self._tell(message)

    def _change(self, pump: Pump, state: State) -> None:
        before, self.state = self.state, state
        self._say(pump, f"State changed from {before} to {state}")

    def _tell(self, message: str) -> None:
        self._around.tell(ProcessEvent(self.dyno.name, self.state, message))


def _ended(status: int, *, stopped: bool) -> State:
    if stopped:
        return State.DOWN
    return State.CRASHED if status else State.COMPLETE


def _signal(lifeline: int, wanted: signal.Signals) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(lifeline, bytes([wanted]))
