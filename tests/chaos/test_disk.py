"""A full disk: collection stops and says why in plain words, goes on when there is space, and nothing is lost."""

import json
import urllib.error
import urllib.request
from pathlib import Path

from tests.chaos.disk import SmallDisk
from tests.chaos.readers import Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.support import until
from tests.support.service import Service

MB = 1 << 20


def push(service: Service, app: str) -> tuple[int, str]:
    """Post lines; the status, and what is said."""
    request = urllib.request.Request(
        f"{service.url}/v1/apps/{app}/logs?process=web&dyno=web.1", b"pushed\n" * 50_000, {"Content-Type": "text/plain"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["detail"]


async def test_the_journals_disk_is_full(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "data" / "bus", 16 * MB) as disk:
        async with Service(tmp_path, prefix=disk.prefix, settings={"bus.segment_bytes": "1MiB"}) as service:
            await service.start()
            tail = Tail(lambda: service.logs)
            with Writer(service.data, Writing(rate=1000)) as writer:

                async def work() -> Report:
                    await until(lambda: tail.seen.lines > 500)
                    disk.fill()
                    await until(lambda: "collection waits, the files are kept: no space left" in service.stderr)
                    status, said = push(service, "other")
                    assert status == 503
                    assert "no space left for the journal" in said
                    stopped = tail.seen.lines
                    disk.empty()
                    await until(lambda: tail.seen.lines > stopped + 500, what="lines after the disk was full")
                    assert push(service, "other")[0] < 300
                    disk.fill(leave=100_000)  # and once more, inside of a write
                    await until(lambda: service.stderr.count("collection waits") == 2, what="the second time")
                    report = writer.finish()
                    disk.empty()
                    await until(lambda: tail.seen.tally.complete(report.written), what="the last lines")
                    return report

                report = await run_while(work(), tail)
            assert service.stderr.count("collection goes on") == 2
            tail.seen.tally.check(report.written)
            assert tail.seen.notices == []
            disk.fill()
            service.kill()
            await service.start()  # on a disk that is full
            assert push(service, "other")[0] == 503
            disk.empty()
            await until(lambda: push(service, "other")[0] < 300)
            kept = await history(service.logs)
            kept.tally.check(report.written)
            assert kept.notices == []
            assert await service.stop() == 0


async def test_the_stores_disk_is_full(tmp_path: Path) -> None:
    """The bus keeps the lines meanwhile: tails don't notice, and history reads on into the bus."""
    with SmallDisk(tmp_path / "data" / "store", 256 * MB) as disk:
        async with Service(tmp_path, prefix=disk.prefix) as service:
            await service.start()
            tail = Tail(lambda: service.logs)
            with Writer(service.data, Writing(rate=1000)) as writer:

                async def work() -> Report:
                    await until(lambda: tail.seen.lines > 500)
                    disk.fill()
                    await until(lambda: "the disk of the store is full" in service.stderr, what="a clear message")
                    seen = tail.seen.lines
                    await until(lambda: tail.seen.lines > seen + 2000, what="lines while the store's disk is full")
                    report = writer.finish()
                    await until(lambda: tail.seen.tally.complete(report.written), what="the last lines")
                    return report

                report = await run_while(work(), tail)
            tail.seen.tally.check(report.written)
            assert tail.seen.notices == []
            assert (await history(service.logs)).digest == tail.seen.digest
            disk.empty()
            await until(lambda: "the store takes lines again" in service.stderr, 40, "the store goes on")
            assert (await history(service.logs)).digest == tail.seen.digest
            assert await service.stop() == 0
