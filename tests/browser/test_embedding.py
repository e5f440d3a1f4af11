"""The pane in a dashboard: a page of another site, under a policy that lets in as little as can be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import BrowserContext, Page, Route

from tests.browser.panes import Pane
from tests.browser.test_people import AXE
from tests.support import until
from tests.support.service import Service
from tests.support.tokens import AUDIENCE, Issuer

pytestmark = pytest.mark.asyncio(loop_scope="package")

TWO_LINES = """\
<script type="module" src="{service}/pane/log-pane.js"></script>
<log-pane app="{app}"></log-pane>
"""
POLICY = (
    "default-src 'none'; script-src 'self' {service}; style-src 'self'; connect-src 'self' {service}; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SIGNED_IN = """
    const pane = document.querySelector("log-pane");
    pane.token = async () => (await fetch("/token")).text();
"""


class Dashboard:
    """A site of one page. Its own script runs before the pane's, which is a module and comes from elsewhere."""

    def __init__(self) -> None:
        self.service = self.origin = self.app = self.token = ""
        self.body, self.script, self.style = TWO_LINES, "", ""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/{file:.*}", self._file)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.origin = f"http://localhost:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()

    async def _file(self, request: web.Request) -> web.Response:
        body = self.body.format(service=self.service, app=self.app)
        page = (
            '<!doctype html><html lang="en"><title>Dashboard</title><link rel="stylesheet" href="/look.css">'
            f'{body}<script src="/own.js"></script></html>'
        )
        text, kind = {
            "own.js": (self.script, "text/javascript"),
            "look.css": (self.style, "text/css"),
            "token": (self.token, "text/plain"),
        }.get(request.match_info["file"], (page, "text/html"))
        policy = {"Content-Security-Policy": POLICY.format(service=self.service)}
        return web.Response(text=text, content_type=kind, headers=policy)

    async def open(self, page: Page, query: str = "") -> None:
        await page.goto(f"{self.origin}/{query}")


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dashboard, Service]]:
    """A dashboard, and a service that asks for tokens and lets its pages read."""
    folder, issuer, dashboard = tmp_path_factory.mktemp("embedded"), Issuer(), Dashboard()
    (folder / "jwks").write_bytes(issuer.jwks())
    async with dashboard.served():
        settings = {
            "auth.jwks": folder / "jwks",
            "auth.audience": AUDIENCE,
            "http.origins": f'["{dashboard.origin}"]',
        }
        async with Service(folder / "service", procfile=None, settings=settings) as service:
            await service.start()
            dashboard.service, dashboard.token = service.url, issuer.token()
            yield dashboard, service


@pytest_asyncio.fixture(loop_scope="package")
async def embedded(
    site: tuple[Dashboard, Service], context: BrowserContext, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Dashboard, Pane]]:
    """The dashboard as it is at first, and a page that it isn't open in yet."""
    dashboard, service = site
    dashboard.app = request.node.name.replace("_", "-")[:60].strip("-")
    dashboard.body, dashboard.script, dashboard.style = TWO_LINES, SIGNED_IN, ""
    pane = Pane(await context.new_page(), service.url, dashboard.app)
    pane.token = dashboard.token
    yield dashboard, pane
    assert pane.complaints == []


async def test_two_lines_are_enough(embedded: tuple[Dashboard, Pane]) -> None:
    """And a token, where the service asks for one: as a page sets it before the pane is there."""
    dashboard, pane = embedded
    await pane.number(500)
    await dashboard.open(pane.page)
    await pane.state("Live")
    await pane.page.locator("log-pane .row", has_text="seq=499 ").wait_for()
    await pane.number(10, first=500)
    await pane.page.locator("log-pane .row", has_text="seq=509 ").wait_for()
    await pane.page.keyboard.press("Tab")
    await pane.js("pane.focus()")
    await pane.page.keyboard.press("Home")
    await pane.page.locator("log-pane .row", has_text="seq=0 ").wait_for()
    (await pane.tally()).check({"w": 510})
    assert await pane.js("pane.offsetHeight") > 400, "a pane of a height that nobody chose can be read"


async def test_a_dashboard_gives_it_its_looks(embedded: tuple[Dashboard, Pane]) -> None:
    dashboard, pane = embedded
    dashboard.style = """
        log-pane { --log-bg: rgb(1, 2, 3); --log-fg: rgb(200, 210, 220); --log-font: 20px/30px serif; height: 400px }
        log-pane::part(toolbar) { padding: 33px }
    """
    await pane.push(["a line"])
    await dashboard.open(pane.page)
    await pane.page.locator("log-pane .row").wait_for()
    assert await pane.js("getComputedStyle(pane).backgroundColor") == "rgb(1, 2, 3)"
    assert await pane.js("getComputedStyle(pane.list.rows.querySelector('.msg')).color") == "rgb(200, 210, 220)"
    assert await pane.js("getComputedStyle(pane.list.rows.querySelector('.msg')).fontFamily") == "serif"
    assert await pane.js("pane.list.rows.firstElementChild.offsetHeight") == 30
    assert await pane.js("pane.offsetHeight") == 400
    assert await pane.js("getComputedStyle(pane.toolbar.element).paddingTop") == "33px"


async def test_colours_follow_the_page_and_not_the_system(embedded: tuple[Dashboard, Pane]) -> None:
    dashboard, pane = embedded
    await pane.push(["a line"])
    await pane.page.emulate_media(color_scheme="light")
    for scheme, paper, ink in (("dark", "rgb(20, 23, 28)", "223"), ("light", "rgb(255, 255, 255)", "27")):
        dashboard.style = f":root {{ color-scheme: {scheme} }}"
        await dashboard.open(pane.page)
        await pane.page.locator("log-pane .row").wait_for()
        assert await pane.js("getComputedStyle(pane).backgroundColor") == paper
        colour = await pane.js("getComputedStyle(pane.list.rows.querySelector('.msg')).color")
        assert colour.startswith(f"rgb({ink}, ")


@pytest.mark.parametrize(
    ("scheme", "theme"),
    [
        ("light", "--log-bg: #101418; --log-fg: #e6edf3"),
        ("light", "--log-bg: oklch(0.2 0.03 250); --log-fg: oklch(0.9 0.02 250)"),
        ("dark", "--log-bg: #fffaf0; --log-fg: #222222"),
    ],
)
async def test_a_theme_of_its_own_can_be_read(embedded: tuple[Dashboard, Pane], scheme: str, theme: str) -> None:
    """Also where it is dark in a light page: crashes, rollouts, notices, and colours that messages bring."""
    dashboard, pane = embedded
    dashboard.style = f":root {{ color-scheme: {scheme} }} log-pane {{ {theme} }}"
    line = {"source": "platform", "process": "web", "dyno": "web.1", "stream": "stderr", "time": "2026-11-23T02:00:00Z"}
    told = (
        "State changed from up to crashed",
        "Starting process",
        "\x1b[38;5;20mblue\x1b[0m \x1b[32mgreen\x1b[0m a line",
    )
    lines: list[dict[str, str]] = [{**line, "message": message} for message in told]
    lines += [{"notice": "7 bytes of a line were lost"}]
    data = [orjson.dumps({**each, "cursor": f"1.1.1.{number}"}).decode() for number, each in enumerate(lines)]
    body = "".join(f"id: 1.1.1.{number}\ndata: {text}\n\n" for number, text in enumerate(data))

    async def answer(route: Route) -> None:
        allowed = {"Access-Control-Allow-Origin": dashboard.origin}
        await route.fulfill(content_type="text/event-stream", body=body, headers=allowed)

    await pane.page.route("**/v1/apps/*/logs?*", answer, times=1)
    await dashboard.open(pane.page, "?q=line")
    await pane.page.locator("log-pane .row.notice").wait_for()
    await pane.page.locator("log-pane .row.fault").click()
    await pane.page.locator("log-pane mark").first.wait_for()
    await pane.page.evaluate(AXE.read_text())
    found = await pane.page.evaluate("axe.run(document, {runOnly: ['color-contrast']})")
    assert found["passes"]
    assert [node["any"][0]["message"] for rule in found["violations"] for node in rule["nodes"]] == []
    pane.complaints.clear()  # axe tries styles that the page's policy forbids


async def test_a_dashboard_keeps_the_view_itself(embedded: tuple[Dashboard, Pane]) -> None:
    dashboard, pane = embedded
    dashboard.body = TWO_LINES.replace("<log-pane", '<log-pane state="off"')
    dashboard.script += """
        window.views = [];
        pane.view = "process=worker";
        pane.addEventListener("viewchange", (event) => views.push(event.detail));
    """
    await pane.push(["GET /"], process="web")
    await pane.push(["packed", "no box"], process="worker")
    await dashboard.open(pane.page, "?process=mine")
    await until(lambda: _is(pane, ["packed", "no box"]), what="the view that was set")
    await pane.page.get_by_label("Search the log").fill("box")
    await pane.page.get_by_role("button", name="Filter", exact=True).click()
    await until(lambda: _is(pane, ["no box"]), what="the lines that match")
    assert (await pane.page.evaluate("views"))[-1] == "process=worker&q=box&only=1"
    assert pane.page.url == f"{dashboard.origin}/?process=mine"
    await pane.page.locator("log-pane .row").click()
    await pane.page.get_by_role("button", name="Copy link").click()
    assert (await pane.copied("at=")).startswith(f"{pane.url}/apps/{pane.app}?process=worker&q=box&only=1&at=")
    await pane.js("void (pane.view = '')")
    await until(lambda: _is(pane, ["GET /", "packed", "no box"]), what="all lines")


async def _is(pane: Pane, messages: list[str]) -> bool:
    return await pane.js("pane.log !== undefined") and await pane.messages() == messages


async def test_a_pane_that_is_taken_out_asks_for_nothing(embedded: tuple[Dashboard, Pane]) -> None:
    """And goes on where it is put in again, with another app as well."""
    dashboard, pane = embedded
    await pane.number(10)
    await dashboard.open(pane.page)
    await pane.state("Live")
    tails: list[str] = []
    pane.page.on("requestfailed", lambda request: tails.append(request.url))  # it never finishes by itself
    await pane.page.evaluate("window.taken = document.querySelector('log-pane'); taken.remove()")
    await until(lambda: any("tail=true" in url for url in tails), what="the end of the tail")
    await pane.number(10, first=10)
    await pane.page.evaluate("document.body.append(taken)")
    await pane.until("pane.log.lines.length === 20")
    (await pane.tally()).check({"w": 20})
    pane.app = "another-app"
    await pane.number(5)
    await pane.js("void (pane.app = 'another-app')")
    await pane.until("pane.log.lines.length === 5")


async def test_a_site_that_is_not_named_is_told_what_to_do(service: Service, context: BrowserContext) -> None:
    dashboard = Dashboard()
    async with dashboard.served():
        dashboard.service, dashboard.app = service.url, "shop"
        page = await context.new_page()
        await dashboard.open(page)
        banner = page.locator("log-pane .banner")
        await banner.get_by_text("http.origins").wait_for()
        assert dashboard.origin in await banner.inner_text()


async def test_the_services_own_page_asks_for_a_token(embedded: tuple[Dashboard, Pane]) -> None:
    dashboard, pane = embedded
    await pane.number(10)
    await pane.page.goto(pane.url)
    field, button = pane.page.get_by_label("Token", exact=True), pane.page.get_by_role("button", name="Sign in")
    await field.fill("of somebody else")
    await button.click()
    await field.wait_for()
    await field.fill(dashboard.token)
    await button.click()
    await pane.page.get_by_role("link", name=pane.app, exact=True).click()
    await pane.page.locator("log-pane .row", has_text="seq=9 ").wait_for()
    await pane.page.evaluate("sessionStorage.clear()")
    await pane.open(wait=False)
    await field.fill(dashboard.token)
    await field.press("Enter")
    await pane.page.locator("log-pane .row", has_text="seq=9 ").wait_for()
    assert await field.count() == 0
