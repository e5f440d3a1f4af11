"""What the service can't start on: one plain line on stderr, and status 1. Some things it can do without."""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.readers import Tail, history, run_while
from tests.chaos.writer import Report, Writer, Writing
from tests.support import until
from tests.support.service import Service


async def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with Service(tmp_path, port=port, procfile=None) as service:
            said = await service.refused()
    assert said == f"logsvc: port {port} of 127.0.0.1 is in use by another program; choose another with --port\n"


async def test_a_data_folder_in_use(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile=None) as first, Service(tmp_path / "second", procfile=None) as second:
        await first.start()
        second.data = first.data
        said = await second.refused()
        assert f"is in use by process {first.pid}" in said
        assert first.running


async def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    async with Service(tmp_path) as service:
        for name in ("bus", "store", "pods", "collector"):
            service.data = tmp_path / name
            service.data.mkdir()
            (service.data / name).write_text("in the way")
            assert str(service.data / name) in await service.refused(others_say=name == "collector")


async def test_a_data_folder_that_is_not_writable(tmp_path: Path) -> None:
    """Root may write anywhere, so where it runs the test the service goes without that right."""
    async with Service(tmp_path / "run", procfile=None) as service:
        service.data.mkdir()
        service.data.chmod(0o555)
        if os.geteuid() == 0:
            service.prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
        said = await service.refused()
    assert "Permission denied" in said
    assert str(service.data) in said


@pytest.mark.parametrize(
    ("procfile", "where"), [("web: true\nwhat is this\n", ":2"), ("", ""), ("web: true\nweb: false\n", ":2")]
)
async def test_a_procfile_that_does_not_parse(tmp_path: Path, procfile: str, where: str) -> None:
    async with Service(tmp_path, procfile=procfile) as service:
        said = await service.refused()
    assert f"{tmp_path / 'Procfile'}{where}" in said


@pytest.fixture
async def used(tmp_path: Path) -> AsyncIterator[tuple[Service, Report]]:
    """A service, stopped, with some lines in it."""
    async with Service(tmp_path, settings={"bus.segment_bytes": "64KiB"}) as service:
        await service.start()
        tail = Tail(lambda: service.logs)
        with Writer(service.data, Writing(lines=1000, rate=20_000)) as writer:

            async def work() -> Report:
                report = writer.wait()
                await until(lambda: tail.seen.tally.complete(report.written))
                return report

            report = await run_while(work(), tail)
        assert await service.stop() == 0
        yield service, report


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


async def test_a_damaged_journal(used: tuple[Service, Report]) -> None:
    service, _ = used
    segments = sorted((service.data / "bus").glob("*.journal"))
    assert len(segments) > 2
    flip(segments[1], segments[1].stat().st_size // 2)
    said = await service.refused()
    assert "journal" in said
    assert str(segments[1]) in said


async def test_a_journal_with_a_file_missing(used: tuple[Service, Report]) -> None:
    service, _ = used
    missing = sorted((service.data / "bus").glob("*.journal"))[1]
    missing.unlink()
    said = await service.refused()
    assert f"{missing} is missing" in said


async def test_a_damaged_store(used: tuple[Service, Report]) -> None:
    service, _ = used
    for path in (service.data / "store").rglob("*.sql"):
        path.write_text("this is no SQL")
    said = await service.refused(others_say=True)
    assert "store" in said
    assert str(service.data / "store") in said


async def test_what_collection_remembers_is_garbage(used: tuple[Service, Report]) -> None:
    """Nothing is lost: journal and store know it too."""
    service, report = used
    (service.data / "collector" / "checkpoint").write_bytes(os.urandom(1000))
    await service.start()
    await until(lambda: "can't be used" in service.stderr)
    kept = await history(service.logs)
    kept.tally.check(report.written)
    assert kept.notices == []
    assert await service.stop() == 0


async def test_what_collection_remembers_is_gone(used: tuple[Service, Report]) -> None:
    service, report = used
    shutil.rmtree(service.data / "collector")
    await service.start()
    kept = await history(service.logs)
    kept.tally.check(report.written)
    assert await service.stop() == 0
