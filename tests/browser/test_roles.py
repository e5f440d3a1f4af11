"""The pane as a cluster serves it: `logsvc serve`, a role of its own on Kafka and ClickHouse."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from tests.browser.panes import Pane
from tests.support import until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import cluster
from tests.support.roles import Platform

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]


async def test_a_pane_reads_on_behind_a_server_that_was_started_anew(tmp_path: Path, context: BrowserContext) -> None:
    with ExitStack() as stack:
        kafka = await asyncio.to_thread(stack.enter_context, cluster(tmp_path / "kafka"))
        clickhouse = await asyncio.to_thread(stack.enter_context, ClickHouse(tmp_path / "clickhouse"))
        platform = Platform(tmp_path / "roles", kafka, clickhouse, {"http.grace": 5, "bus.partitions": 3})
        await platform.migrate(3)
        store, server = platform.store("1"), platform.serve("1")
        async with store, server:
            await store.start()
            await server.start()
            pane = Pane(await context.new_page(), server.url, "demo")
            await pane.number(1500)
            await pane.page.goto(server.url)
            await pane.page.get_by_role("link", name="demo", exact=True).click()
            await pane.state("Live")
            await pane.page.keyboard.press("Home")
            await pane.until("pane.log.top === 'done' && pane.log.lines.length")
            await pane.until("(pane.list.show(pane.log.lines.length - 1), pane.log.bottom === 'live')")
            (await pane.tally()).check({"w": 1500})
            await pane.page.keyboard.press("End")
            await pane.state("Live")
            assert await server.stop() == 0
            await server.start()
            await pane.state("Live")
            await pane.number(500, first=1500)
            await until(lambda: pane.js("pane.log.lines.at(-1).raw.includes('seq=1999 ')"), what="the newest line")
            (await pane.tally()).check({"w": 2000})
            assert pane.complaints == []
