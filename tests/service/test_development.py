"""The whole service as a process: it starts, runs a Procfile, and stops in the order in which lines flow."""

import asyncio
import sys
from pathlib import Path

import aiohttp

from tests.chaos.readers import Tail, history, run_while
from tests.support.service import Service
from tests.support.wait import until

FAREWELL = """\
web: trap 'echo last words; exit 0' TERM; echo first words; while true; do sleep 0.05; done
"""


async def lines(service: Service) -> str:
    async with aiohttp.ClientSession() as client, client.get(service.logs) as response:
        return await response.text()


async def test_the_last_words_of_a_process_are_shown_and_kept(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile=FAREWELL) as service:
        await service.start()
        await until(lambda: "| first words" in (tmp_path / "stdout").read_text(), what="the first line is shown")
        assert await service.stop() == 0
        shown = (tmp_path / "stdout").read_text()
        assert shown.index("| first words") < shown.index("| last words")
        await service.start()
        kept = await lines(service)
        assert kept.index("]: first words") < kept.index("]: last words")


async def test_a_release_step_that_fails_ends_the_service_with_its_status(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile="release: echo broken; exit 3\nweb: sleep 1000\n") as service:
        service.launch()
        assert await service.ended() == 3
        assert "broken" in (tmp_path / "stdout").read_text()


async def test_without_a_procfile_it_serves_and_tails_are_told_when_it_stops(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile=None) as service:
        await service.start()
        async with aiohttp.ClientSession() as client:
            async with client.post(service.logs, data="one\n") as response:
                assert response.status == 200
            headers = {"Accept": "text/event-stream"}
            async with client.get(f"{service.logs}?tail=true", headers=headers) as response:
                assert (await response.content.readline()).startswith(b"id: ")
                stopping = asyncio.create_task(service.stop())
                assert (await response.content.read()).endswith(b"retry: 200\n\n")
            assert await stopping == 0


FLOOD = """\
web: {python} -c "for n in range({lines}): print(f'writer=web seq={{n}} {pad}')" && sleep 1000
"""


async def test_a_flood_that_rotates_faster_than_it_is_read_loses_nothing(tmp_path: Path) -> None:
    """Rotated files are deleted once they are collected, and no earlier; the process waits meanwhile."""
    lines = 20_000  # 40 files
    procfile = FLOOD.format(python=sys.executable, lines=lines, pad="x" * 100)
    settings = {"procfile.rotate_bytes": "64KiB", "procfile.keep_rotated": 1}
    async with Service(tmp_path, procfile=procfile, settings=settings) as service:
        await service.start()
        tail = Tail(lambda: service.logs)
        await run_while(until(lambda: tail.seen.tally.next("web") >= lines, 60), tail)
        tail.seen.tally.check({"web": lines})
        assert tail.seen.notices == []
        kept = await history(service.logs)
        kept.tally.check({"web": lines})
        assert len(list((service.data / "pods").glob("*/*/*"))) < 10
        assert await service.stop() == 0
