"""Exactly once under load: numbered lines, rotation, compression and deletion, and a source that is killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from logsvc.bus.local import LocalBus
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from tests.sources.kubernetes.support import Container, Everybody, chunks_of, compress, messages
from tests.support import Tally, numbered, until

PROGRAM = [sys.executable, "-m", "tests.sources.kubernetes.program"]


async def start(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE)


@asynccontextmanager
async def writing(root: Path, pods: int, lines: int, rate: int) -> AsyncIterator[dict[str, int]]:
    """Writers at work; what they write, by name. They have ended when the block ends."""
    names = [f"w-{number}" for number in range(pods)]
    writers = [await start("write", root, name, lines, rate) for name in names]
    try:
        yield dict.fromkeys(names, lines)
        for writer in writers:
            assert await writer.wait() == 0
    finally:
        for writer in writers:
            if writer.returncode is None:
                writer.kill()
                await writer.wait()


async def tally(bus: LocalBus) -> Tally:
    counted = Tally()
    chunks = await chunks_of(bus)
    for message in messages(chunks):
        counted.feed(message)
    assert messages(chunks, notices=True) == []
    return counted


async def test_a_source_that_is_killed_again_and_again_sends_every_line_once(tmp_path: Path) -> None:
    root = tmp_path / "pods"
    root.mkdir()
    async with writing(root, pods=4, lines=30_000, rate=6_000) as written:
        for number in range(12):
            collector = await start("collect", tmp_path)
            assert collector.stdout is not None
            try:
                # Killed at another moment each time: while it finds its place, at work, right after a checkpoint.
                async with asyncio.timeout(0.15 + 0.09 * number):
                    await collector.stdout.readline()
                    await collector.wait()
            except TimeoutError:
                pass
            finally:
                collector.send_signal(signal.SIGKILL)
                await collector.wait()
    collector = await start("collect", tmp_path)
    assert collector.stdout is not None
    assert await collector.stdout.readline() == b"drained\n"
    collector.kill()
    await collector.wait()
    async with LocalBus.open(tmp_path / "bus", partitions=4) as bus:
        (await tally(bus)).check(written)


def known(source: FilesSource, log: Container) -> bool:
    """Whether the source has seen every file of a container; what isn't there any more by then can't be read."""
    lane = source.lanes.get((log.folder.parent.name, log.folder.name))
    there = {path.name for path in log.folder.iterdir()}
    return lane is not None and there <= {file.name.name for file in lane.series.files}


async def test_rotation_compression_and_deletion_under_load_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "pods"
    root.mkdir()
    written: dict[str, int] = {}
    async with LocalBus.open(tmp_path / "bus", partitions=4) as bus:
        settings = FilesSettings(root, tmp_path / "collector", "node-1", rescan=0.2)
        source = FilesSource(settings, bus, Everybody())

        async def live_and_die(number: int) -> None:
            """A pod that logs in bursts, whose old logs are compressed and removed, and that is deleted at last."""
            name = f"pod-{number}"
            log = Container(root, pod=name, uid=f"uid-{number}")
            plain: list[Path] = []
            packed: list[Path] = []
            for burst in range(40):
                log.write(*(numbered(name, burst * 100 + seq) for seq in range(100)))
                if burst % 3 == number % 3:
                    plain.append(log.rotate())
                if len(plain) > 1:
                    packed.append(compress(plain.pop(0)))
                if len(packed) > 2:
                    await until(lambda: known(source, log), what="no file is unknown that is deleted")
                    packed.pop(0).unlink()
            await until(lambda: known(source, log), what="no file is unknown that is deleted")
            log.delete()
            log.write(numbered(name, 4000))
            log.close()
            written[name] = 4001

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.run())
            async with asyncio.TaskGroup() as pods:
                for number in range(20):
                    pods.create_task(live_and_die(number))
            await source.drained()
            source.stop()
        (await tally(bus)).check(written)
