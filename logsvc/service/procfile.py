"""`logsvc procfile`: the processes of a Procfile as a kubelet would run them, for a collector of their own."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from logsvc.api.context import LOCAL_TENANT
from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.service.lifecycle import say, signals
from logsvc.sources.procfile.formation import RunnerSettings, parse_scale
from logsvc.sources.procfile.runner import ProcfileRunner


def make_runner(
    settings: Settings,
    procfile: Path,
    app: str,
    scale: tuple[str, ...],
    collected: Callable[[Path], bool] | None = None,
) -> ProcfileRunner:
    """The runner of a Procfile that writes its logs below the data folder. Raises ConfigError.

    `collected`: see ProcfileRunner.
    """
    data = settings.data.dir
    asked = RunnerSettings(
        pods=data / "pods",
        identities=data / "identity",
        tenant=LOCAL_TENANT,
        app=app,
        scale=parse_scale(scale),
        retention=settings.limits.retention_of(""),
        **settings.procfile.model_dump(),
    )
    for folder in (asked.pods, asked.identities):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the data folder {folder} can't be used: {error.strerror}") from error
    return ProcfileRunner.of_file(procfile, asked, collected=collected)


async def run_processes(settings: Settings, procfile: Path, app: str, scale: tuple[str, ...]) -> int:
    """Run them until a signal comes, or the release step fails: its exit status then."""
    runner = make_runner(settings, procfile, app, scale)
    with signals() as stop:
        return await until_stopped(runner, stop)


async def until_stopped(runner: ProcfileRunner, stop: asyncio.Event) -> int:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run(), name="procfile")
        stopping = group.create_task(stop.wait(), name="signals")
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            say("\nStopping. Ctrl-C again kills what is still running.")
            await runner.stop()
        stopping.cancel()
        return await running or 0
