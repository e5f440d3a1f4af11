"""Debian's Chromium, and the service whose page it opens: one of each for all tests here, on one event loop."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.browser.panes import CHROMIUM, Pane
from tests.support.service import Service


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Serves whoever pushes; each test has an app of its own."""
    async with Service(tmp_path_factory.mktemp("service"), procfile=None) as service:
        yield await service.start()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**CHROMIUM)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="package")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 1200, "height": 700}, locale="en-GB", timezone_id="UTC")
    context.set_default_timeout(60_000)
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="package")
async def pane(context: BrowserContext, service: Service, request: pytest.FixtureRequest) -> AsyncIterator[Pane]:
    """A page that isn't open yet, of an app of its own. What the browser complains about fails the test."""
    pane = Pane(await context.new_page(), service.url, re.sub(r"[^a-z0-9]+", "-", request.node.name)[-60:].strip("-"))
    yield pane
    assert pane.complaints == []
