"""Programs that the tests run as processes of their own, to kill them.

python -m tests.sources.kubernetes.program collect FOLDER
python -m tests.sources.kubernetes.program write ROOT POD LINES PER_SECOND
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from logsvc.bus.local import LocalBus
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from tests.sources.kubernetes.support import Container, Everybody, compress
from tests.support import numbered

ROTATE = 256 * 1024
"""A log is rotated when it is this large."""


async def collect(folder: Path) -> None:
    """Collect until the end comes, and say when it has begun."""
    async with LocalBus.open(folder / "bus", partitions=4) as bus:
        settings = FilesSettings(folder / "pods", folder / "collector", "node-1", checkpoint=0.1, rescan=0.5)
        source = FilesSource(settings, bus, Everybody())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.run())
            await source.drained()
            os.write(1, b"drained\n")


def write(root: Path, pod: str, lines: int, rate: int) -> None:
    """Write numbered lines as a container does. Nothing is deleted, as nobody may be looking for a while."""
    log = Container(root, pod=pod, uid=f"uid-{pod}")
    begin = time.monotonic()
    written = 0
    rotated: list[Path] = []
    while written < lines:
        share = min(max(rate // 100, 1), lines - written)
        for seq in range(written, written + share):
            text = numbered(pod, seq, b"x" * (seq * 37 % 150))
            if seq % 50 == 7:
                log.write(text[:10], tag="P")
                if seq % 100 == 7 and log.path.stat().st_size > ROTATE // 2:
                    rotated.append(log.rotate())
                text = text[10:]
            log.write(text, stream="stdout")
        written += share
        if log.path.stat().st_size > ROTATE:
            rotated.append(log.rotate())
        while len(rotated) > 1:
            compress(rotated.pop(0))
        # The pace of a container, not a wait for anything.
        time.sleep(max(0.0, begin + written / rate - time.monotonic()))
    log.close()


def main() -> None:
    match sys.argv[1:]:
        case ["collect", folder]:
            asyncio.run(collect(Path(folder)))
        case ["write", root, pod, lines, rate]:
            write(Path(root), pod, int(lines), int(rate))
        case _:
            os._exit(2)


if __name__ == "__main__":
    main()
