"""Drains on the service's page: made, watched, tried, paused and taken away, with a receiver that really gets lines."""

from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser.panes import Pane
from tests.browser.test_people import axe
from tests.support import until
from tests.support.receiver import Receiver, answer
from tests.support.service import Service
from tests.support.tokens import AUDIENCE, Issuer

pytestmark = pytest.mark.asyncio(loop_scope="package")

SETTINGS = {
    "drains.http": True,
    "drains.allow": '["127.0.0.1/32"]',
    "drains.batch_seconds": 0.1,
    "drains.pause_first": 0.1,
    "drains.pause_most": 0.5,
}


@pytest.mark.timeout(300)
async def test_a_drain_from_its_beginning_to_its_end(tmp_path: Path, context: BrowserContext) -> None:
    async with Service(tmp_path, procfile=None, settings=SETTINGS) as service, Receiver().listening() as receiver:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        page = pane.page
        await pane.push(["a line"])
        await pane.open()
        await page.get_by_role("button", name="Drains").click()
        drains, url = page.locator(".drains li"), page.get_by_label("URL of a drain")
        await page.get_by_text("None yet").wait_for()
        await url.fill("https://10.1.2.3/logs")
        await url.press("Enter")
        await page.get_by_text("drains may not connect to this address").wait_for()
        await url.fill(f"{receiver.url}/logs")
        await url.press("Enter")
        await drains.filter(has_text=f"{receiver.url}/logs").wait_for()
        assert await url.input_value() == ""
        await pane.number(10)
        await got(receiver, 9)
        await drains.filter(has_text="delivering").wait_for()
        assert await axe(pane) == []
        await drains.get_by_role("button", name="Test").click()
        await page.get_by_text("The test line was taken. The receiver answers 204").wait_for()

        receiver.behave = answer(503)
        await pane.number(10, first=10)
        await drains.filter(has_text="retrying").filter(has_text="The receiver answers 503").wait_for()
        await drains.get_by_role("button", name="Test").click()
        await page.get_by_text("The test line was not taken. The receiver answers 503").wait_for()
        await drains.get_by_role("button", name="Pause").click()
        await drains.filter(has_text="paused").wait_for()
        await pane.number(10, first=20)
        receiver.behave = answer()
        await drains.get_by_role("button", name="Resume").click()
        await got(receiver, 29)
        await drains.filter(has_text="delivering").wait_for()
        receiver.verdict.tally.check({"w": 30})

        page.once("dialog", lambda dialog: dialog.dismiss())
        await drains.get_by_role("button", name="Remove").click()
        await drains.get_by_role("button", name="Pause").wait_for()
        page.once("dialog", lambda dialog: dialog.accept())
        await drains.get_by_role("button", name="Remove").click()
        await page.get_by_text("None yet").wait_for()
        assert await page.evaluate("document.activeElement.ariaLabel") == "URL of a drain"
        await page.keyboard.press("Escape")
        await page.get_by_role("dialog").wait_for(state="hidden")
        assert pane.complaints == []


@pytest.mark.timeout(300)
async def test_the_filter_of_a_drain_is_changed(tmp_path: Path, context: BrowserContext) -> None:
    async with Service(tmp_path, procfile=None, settings=SETTINGS) as service, Receiver().listening() as receiver:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        page = pane.page
        await pane.push(["a line"])
        await added(service, f"{receiver.url}/logs", filter={"process": ["web"], "grep": ["seq="]})
        await pane.open()
        await page.get_by_role("button", name="Drains").click()
        drain, form = page.locator(".drains li"), page.get_by_role("form", name="Filter")
        kinds, values = form.get_by_label("Condition", exact=True), form.get_by_label("Value", exact=True)
        await drain.filter(has_text="only process=web, grep=seq=").wait_for()
        await pane.number(10)
        await got(receiver, 9)

        await drain.get_by_role("button", name="Filter").click()
        assert [await value.input_value() for value in await values.all()] == ["web", "seq="]
        assert await axe(pane) == []
        size = page.viewport_size
        assert size is not None
        await page.set_viewport_size({"width": 360, "height": 640})
        assert await page.get_by_role("dialog").evaluate("each => each.scrollWidth <= each.clientWidth")
        assert await axe(pane) == []
        await page.set_viewport_size(size)
        await kinds.nth(1).select_option("text matches (RE2)")
        await values.nth(1).fill("(")
        await values.nth(1).press("Enter")
        await page.locator("dialog [role=status]", has_text="grep_re: not a pattern that RE2 takes").wait_for()
        await values.nth(1).fill("seq=1\\d ")
        await form.get_by_label("Leave out this condition").first.click()
        await form.get_by_role("button", name="Save").click()
        await form.wait_for(state="detached")
        assert await page.evaluate("document.activeElement.textContent") == "Filter"
        await drain.filter(has_text="only grep_re=seq=1\\d ").wait_for()
        await pane.number(10, first=10, process="worker")
        await got(receiver, 19)
        receiver.verdict.tally.check({"w": 20})

        await drain.get_by_role("button", name="Filter").click()
        await form.get_by_role("button", name="Add a condition").click()
        await page.keyboard.type("left as it was")
        await form.get_by_role("button", name="Cancel").click()
        await drain.get_by_role("button", name="Filter").click()
        assert await values.count() == 1
        await form.get_by_label("Leave out this condition").click()
        await form.get_by_label("upper and lower case alike").check()
        await form.get_by_role("button", name="Save").click()
        await drain.filter(has_text="only ignore_case").wait_for()
        assert pane.complaints == []


async def got(receiver: Receiver, seq: int) -> None:
    """Wait for a line."""
    part = b"seq=%d " % seq
    await until(lambda: any(part in text for text in receiver.verdict.texts), what=part.decode())


async def test_what_is_in_hand_stays_while_the_list_changes(tmp_path: Path, context: BrowserContext) -> None:
    """Somebody else adds a drain, and takes one away."""
    async with Service(tmp_path, procfile=None, settings=SETTINGS) as service:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        page = pane.page
        await pane.number(10)
        first = await added(service, "http://127.0.0.1:1/first")
        await added(service, "http://127.0.0.1:1/second", filter={"process": ["web"], "ignore_case": True})
        await pane.open()
        await page.get_by_role("button", name="Drains").click()
        second = page.locator(".drains li", has_text="/second")
        await second.filter(has_text="only process=web, ignore_case").wait_for()
        await second.get_by_role("button", name="Test").focus()
        await added(service, "http://127.0.0.1:1/third")
        async with aiohttp.ClientSession() as client:
            await client.delete(f"{service.url}/apps/demo/log-drains/{first}")
        await page.locator(".drains li", has_text="/third").wait_for()
        await page.locator(".drains li", has_text="/first").wait_for(state="detached")
        assert await second.get_by_role("button", name="Test").evaluate("test => test === document.activeElement")
        service.kill()
        lost = page.get_by_text("The service can't be reached.")
        await lost.wait_for()
        await service.start()
        await lost.wait_for(state="detached")


async def added(service: Service, url: str, token: str = "", **members: object) -> str:
    """Make a drain, as other clients do; its id."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client,
        client.post(f"{service.url}/apps/demo/log-drains", json={"url": url, **members}) as response,
    ):
        assert response.status == 201, await response.text()
        return str((await response.json())["id"])


async def test_who_may_only_read_sees_no_secret_and_changes_nothing(tmp_path: Path, context: BrowserContext) -> None:
    issuer = Issuer()
    (tmp_path / "jwks").write_bytes(issuer.jwks())
    settings = {**SETTINGS, "auth.jwks": tmp_path / "jwks", "auth.audience": AUDIENCE}
    async with Service(tmp_path / "service", procfile=None, settings=settings) as service:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        page = pane.page
        pane.token = issuer.token()
        await pane.number(10)
        await added(service, "http://127.0.0.1:1/secret", issuer.token(scope="drains:write"))
        await signed_in(page, issuer.token(scope="logs:read"))
        await pane.open()
        await page.get_by_role("button", name="Drains").click()
        drain = page.locator(".drains li", has_text="http://127.0.0.1:1/****")
        await drain.get_by_role("button", name="Pause").click()
        await page.locator("dialog [role=status]", has_text="drains:write").wait_for()
        await drain.get_by_role("button", name="Pause").wait_for()
        assert "secret" not in await page.content()

        await page.evaluate("sessionStorage.clear()")
        field = page.get_by_label("Token", exact=True)
        await field.wait_for()
        assert await page.get_by_role("dialog").is_hidden()
        await field.fill(issuer.token(scope="logs:read drains:write"))
        await field.press("Enter")
        await page.get_by_role("button", name="Drains").click()
        await page.locator(".drains li", has_text="http://127.0.0.1:1/secret").wait_for()
        await drain.wait_for(state="detached")
        assert pane.complaints == []


async def signed_in(page: Page, token: str) -> None:
    """Have a page hold a token from the start, as after signing in."""
    await page.add_init_script(
        f"sessionStorage.getItem('logsvc-token') ?? sessionStorage.setItem('logsvc-token', '{token}')"
    )
