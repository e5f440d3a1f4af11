"""The heroku command line from npm, unmodified, against a service of ours."""

import asyncio
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import orjson

PACKAGE = Path(__file__).parent.parent / "heroku"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logsvc" / "heroku"
PATIENCE = 120.0
"""Seconds. The program loads thousands of files before it does anything, which takes long on a busy machine."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@cache
def modules() -> Path:
    """Where `scripts/heroku.sh`, which `make test` runs, has put it."""
    version = orjson.loads((PACKAGE / "package.json").read_bytes())["dependencies"]["heroku"]
    folder = _CACHE / version
    assert (folder / ".complete").exists(), f"no heroku in {folder}: scripts/heroku.sh gets it"
    return folder / "node_modules"


class Heroku:
    """A heroku that has somebody logged in, with settings in a folder of its own."""

    def __init__(self, url: str, token: str, home: Path) -> None:
        (node,) = modules().glob("node-linux-*/bin/node")
        self._command = [str(node), str(modules() / "heroku" / "bin" / "run.js")]
        home.mkdir(exist_ok=True)
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "HEROKU_HOST": url,
            "HEROKU_API_KEY": token,
            "HEROKU_SKIP_NEW_VERSION_CHECK": "1",
            "DISABLE_TELEMETRY": "true",
            "NO_COLOR": "1",
        }

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run it to its end: status, stdout, stderr."""
        async with self.running(*arguments) as process, asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, _COLOURS.sub("", out.decode()), _COLOURS.sub("", errors.decode())

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Process]:
        """Have it run for as long as the block lasts."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def lines_of(process: Process, count: int) -> list[str]:
    """The next lines that it writes."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return [_COLOURS.sub("", (await process.stdout.readline()).decode()).rstrip("\n") for _ in range(count)]
