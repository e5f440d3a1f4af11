"""Files rotated, compressed and deleted under load, and pods that come and go: every line once, in order."""

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from logsvc.sources.procfile.identity import Identity
from tests.chaos.readers import Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.support import cri_line, numbered, until
from tests.support.service import Service

LINES = int(os.environ.get("CHAOS_LINES", "30000")) // 2
PODS = 150


async def test_files_rotated_compressed_and_deleted_under_load(tmp_path: Path, figures: Callable[[str], None]) -> None:
    async with Service(tmp_path) as service:
        await service.start()
        tail = Tail(lambda: service.logs)
        names = ("web.1", "web.2", "worker.1")
        with Writer(service.data, Writing(names, rate=2500, lines=LINES, rotate=64 * 1024, keep=1)) as writer:

            async def collected() -> None:
                """Tell the kubelet what it may delete, for as long as there is more to come."""
                while True:
                    wanted = tail.seen.lines + 300
                    await until(lambda wanted=wanted: tail.seen.lines >= wanted, 60)
                    for name in names:
                        writer.tell(name, tail.seen.tally.next(name))

            async def work() -> Report:
                async with asyncio.TaskGroup() as group:
                    telling = group.create_task(collected())
                    report = await asyncio.to_thread(writer.wait)
                    telling.cancel()
                await until(lambda: tail.seen.tally.complete(report.written), what="the last lines")
                return report

            report = await run_while(work(), tail)
        tail.seen.tally.check(report.written)
        assert tail.seen.notices == []
        assert (await history(service.logs)).digest == tail.seen.digest
        assert await service.stop() == 0
    figures(
        f"{report.lines} lines; {report.rotated} files rotated, {report.compressed} compressed, "
        f"{report.deleted} deleted"
    )
    assert report.deleted > report.rotated // 2


def pod(data: Path, name: str, lines: int) -> Path:
    """A pod with one container that has written some lines."""
    identity = Identity(str(uuid.uuid4()), name, "main", "local", "demo", "web", name, 0, 2**62)
    identity.write(data / "identity")
    folder = data / "pods" / str(identity.folder)
    (folder / "main").mkdir(parents=True)
    now = time.time_ns()
    log = b"".join(cri_line(now + seq, "stdout", numbered(name, seq)) for seq in range(lines))
    (folder / "main" / "0.log").write_bytes(log)
    return folder


async def test_pods_that_come_and_go(tmp_path: Path) -> None:
    """Each is deleted as soon as its lines arrived, while others are being found."""
    async with Service(tmp_path) as service:
        await service.start()
        tail = Tail(lambda: service.logs)

        async def life(name: str) -> None:
            folder = await asyncio.to_thread(pod, service.data, name, 20)
            await until(lambda: tail.seen.tally.next(name) == 20, what=name)
            await asyncio.to_thread(shutil.rmtree, folder)

        async def work() -> None:
            for begin in range(0, PODS, 30):
                await asyncio.gather(*(life(f"web.{number}") for number in range(begin, begin + 30)))

        await run_while(work(), tail)
        tail.seen.tally.check({f"web.{number}": 20 for number in range(PODS)})
        assert tail.seen.notices == []
        assert await service.stop() == 0


async def test_more_files_than_descriptors(tmp_path: Path) -> None:
    """It says so, reads what it can, serves what it has, and ends in order."""
    async with Service(tmp_path, prefix=("prlimit", "--nofile=160:160")) as service:
        for number in range(300):
            pod(service.data, f"web.{number}", 5)
        await service.start()
        await until(lambda: "Too many open files" in service.stderr)
        tail = Tail(lambda: service.logs)
        await run_while(until(lambda: tail.seen.tally.lines >= 200), tail)
        assert str(tail.seen.tally).endswith("gaps 0, doubled 0, misordered 0")
        assert service.running
