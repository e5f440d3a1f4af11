"""For everybody: keys, screen readers, small windows, light and dark."""

import uuid
from pathlib import Path

import orjson
import pytest
from playwright.async_api import BrowserContext, Route

from logsvc.sources.procfile.identity import Identity
from tests.browser.panes import Pane
from tests.support import cri_line, until
from tests.support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="package")

MOST_LINES = 20_000
"""That the pane holds (log.js)."""
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


async def everything(pane: Pane) -> None:
    """Lines of every look."""
    colours = " ".join(f"\x1b[{code}m{code}\x1b[0m" for code in [*range(30, 38), *range(90, 98), *range(40, 48)])
    cube = " ".join(f"\x1b[38;5;{code}m{code}\x1b[0m" for code in range(16, 256, 7))
    papers = " ".join(f"\x1b[48;5;{code}m{code}\x1b[0m" for code in range(16, 256, 7))
    await pane.push(["a line", colours, cube, papers, "\x1b[2mdim\x1b[0m \x1b[7minverse\x1b[0m", "user\u202egnp"])
    for process in ("router", "worker", "clock", "mail", "cron-a", "cron-b", "cron-c"):
        await pane.push([f"a line of {process} at=info status=200"], process=process, stream="stderr")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
async def test_axe_finds_nothing(pane: Pane, scheme: str, width: int) -> None:
    await everything(pane)
    await pane.page.emulate_media(color_scheme=scheme)
    await pane.page.set_viewport_size({"width": width, "height": 800})
    await pane.open("?q=line")
    await pane.page.locator("log-pane .chip").first.wait_for()
    await pane.page.locator("log-pane .row", has_text="worker").last.click()
    found = await axe(pane)
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("?")
    found += await axe(pane)
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
async def test_axe_finds_nothing_where_all_is_wrong(pane: Pane, scheme: str, width: int) -> None:
    """Crashes, rollouts, notices, lines that came while it was paused, and a service that has gone."""
    line = {"source": "platform", "process": "web", "dyno": "web.1", "stream": "stdout", "time": "2026-11-23T02:00:00Z"}
    told = ("State changed from up to crashed", "Starting process", "State changed from up to down")
    lines: list[dict[str, str]] = [{**line, "message": message} for message in told]
    lines += [{"notice": "7 bytes were lost"}, {"notice": "not searched", "before": "1.1.1.0"}]
    data = [orjson.dumps({**each, "cursor": f"1.1.1.{number}"}).decode() for number, each in enumerate(lines)]
    body = "".join(f"id: 1.1.1.{number}\ndata: {text}\n\n" for number, text in enumerate(data))

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, headers={"Retry-After": "799"}, json={"detail": "The store is away."})

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=body)

    await pane.page.route("**/v1/apps/*/logs?*", refuse)
    await pane.page.route("**/v1/apps/*/logs?*", answer, times=1)
    await pane.page.emulate_media(color_scheme=scheme)
    await pane.page.set_viewport_size({"width": width, "height": 800})
    await pane.open("?exclude=healthz&not_process=clock")
    await pane.page.locator("log-pane .banner", has_text="The store is away").wait_for()
    assert await axe(pane) == []
    await pane.page.locator("log-pane .gaps").click()
    await pane.page.locator("log-pane .back").wait_for()
    await pane.page.locator("log-pane .row", has_text="crashed").click()
    assert await axe(pane) == []


async def axe(pane: Pane) -> list[str]:
    """What axe-core says of the page against WCAG 2.2 AA."""
    complaints = list(pane.complaints)
    # Handed over by the debugger, as the page's policy lets in no script of others.
    await pane.page.evaluate(AXE.read_text())
    answer = await pane.page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert answer["passes"]
    pane.complaints = complaints  # axe tries styles that the page's policy forbids
    return [
        f"{rule['id']}: {node['html'][:150]} {node['any'][0]['message'] if node['any'] else ''}"
        for rule in answer["violations"]
        for node in rule["nodes"]
    ]


async def test_keys_do_what_the_list_of_them_says(pane: Pane) -> None:
    await pane.push([f"line {number}" for number in range(500)])
    await pane.open()
    await pane.page.locator("log-pane .scroller").focus()
    press = pane.page.keyboard.press
    await press("?")
    keys = await pane.page.locator("log-pane dialog kbd").all_inner_texts()
    assert {"/", "f", "n", "p", "Space", "Home", "End", "Esc", "?"} <= set(keys)
    await press("Escape")
    assert await pane.page.locator("log-pane dialog").is_hidden()
    await press("Space")
    await pane.state("Paused")
    await press("Space")
    await pane.state("Live")
    await press("Home")
    await pane.page.locator("log-pane .row", has_text="line 0").first.wait_for()
    await press("ArrowDown")
    await press("j")
    await press("Enter")
    await pane.page.locator("log-pane .row:has(.details)", has_text="line 1").wait_for()
    await press("Escape")
    assert await pane.page.locator("log-pane .details").count() == 0
    await press("End")
    await pane.state("Live")
    await press("/")
    await pane.page.keyboard.type("line 499")
    await press("Escape")
    await until(lambda: pane.page.locator("log-pane mark").count(), what="marks")
    await press("w")
    assert await pane.js("pane.scroller.classList.contains('nowrap')")
    await press("t")
    assert (await pane.page.locator("log-pane time").first.inner_text()).endswith("Z")


async def test_focus_goes_through_the_pane_in_order(pane: Pane) -> None:
    await pane.push(["a line"])
    await pane.open()
    await pane.page.locator("header a").focus()
    where = "(pane.shadowRoot.activeElement?.className || pane.shadowRoot.activeElement?.type || '')"
    seen: list[str] = []
    for _ in range(40):
        await pane.page.keyboard.press("Tab")
        seen.append(await pane.js(where))
        if seen[-1] == "scroller":
            break
    assert seen[-1] == "scroller"
    assert seen.index("pill live") < seen.index("search") < seen.index("flag") < seen.index("scroller")


async def test_screen_readers_are_told_now_and_then(pane: Pane) -> None:
    await pane.push(["a line"])
    await pane.open()
    log = pane.page.get_by_role("log")
    assert await log.get_attribute("aria-live") == "off"
    assert await log.get_attribute("aria-label") == f"Log of {pane.app}"
    await pane.state("Live")
    await pane.js(
        """void (window.said = [], window.begun = performance.now(),
            new MutationObserver(() => said.push(pane.said.spoken.textContent))
            .observe(pane.said.spoken, {childList: true}))"""
    )
    for _ in range(20):
        await pane.push([f"line {number}" for number in range(50)])
    await pane.until("said.length")
    assert await pane.page.evaluate("said.every(text => / new lines$/.test(text))")
    assert await pane.page.evaluate("said.length <= 1 + (performance.now() - begun) / 5000")


async def test_screen_readers_are_told_when_it_rests_and_goes_on(pane: Pane) -> None:
    await pane.push([f"line {number}" for number in range(100)])
    await pane.open()
    await pane.state("Live")
    spoken = pane.page.locator("log-pane .spoken")
    await pane.page.keyboard.press("Space")
    await spoken.filter(has_text="Paused").wait_for()
    await pane.page.keyboard.press("Space")
    await spoken.filter(has_text="Live again").wait_for()
    await pane.page.keyboard.press("k")
    await pane.page.keyboard.press("Enter")
    await spoken.filter(has_text="Unfolded").wait_for()
    await pane.page.keyboard.press("k")
    await pane.page.keyboard.press("Enter")
    await pane.until("pane.log.lines.filter(line => line.open).length === 2")
    await pane.page.keyboard.press("Escape")
    await spoken.filter(has_text="Folded").wait_for()
    assert await pane.js("pane.log.lines.findLast(line => line.open) === pane.log.lines.at(-1)"), "not the one in focus"


async def test_what_a_key_did_is_heard_where_it_pauses_the_pane_as_well(pane: Pane) -> None:
    """Keys that come faster than the pane draws."""
    await pane.push([f"line {number}" for number in range(100)])
    await pane.open()
    await pane.state("Live")
    await pane.js(
        """void ["k", "Enter"].forEach(key => pane.scroller.dispatchEvent(
            new KeyboardEvent("keydown", {key, bubbles: true, composed: true})))"""
    )
    await pane.state("Paused")
    assert await pane.js("pane.said.spoken.textContent") == "Unfolded. Paused"


async def test_a_countdown_is_not_read_out(pane: Pane) -> None:
    """What is wrong is said once, not each second."""

    async def refuse(route: Route) -> None:
        await route.fulfill(status=429, headers={"Retry-After": "799"})

    await pane.page.route("**/v1/apps/*/logs?*", refuse)
    await pane.open(wait=False)
    banner = pane.page.get_by_role("alert").filter(has_text="slow down (429)")
    await banner.wait_for()
    first = await banner.inner_text()
    await banner.evaluate("""banner => {
        window.read = 0;
        const heard = node => !(node instanceof Element ? node : node.parentElement).closest("[aria-hidden]");
        new MutationObserver(changes => { window.read += changes.filter(({target}) => heard(target)).length })
            .observe(banner, {subtree: true, childList: true, characterData: true});
    }""")

    async def counted() -> bool:
        return await banner.inner_text() != first

    await until(counted, what="another number of seconds")
    assert await pane.page.evaluate("read") == 0


@pytest.mark.parametrize("width", [360, 1200, 2560])
async def test_nothing_is_out_of_reach(pane: Pane, width: int) -> None:
    await everything(pane)
    await pane.page.set_viewport_size({"width": width, "height": 700})
    await pane.open()
    assert await pane.page.evaluate("document.documentElement.scrollWidth") <= width
    assert await pane.js("pane.scroller.clientHeight") > 200
    if width == 360:
        box = await pane.page.locator("log-pane .toolbar").bounding_box()
        assert box is not None
        assert box["height"] < 50, "more than one row"
        await pane.page.get_by_label("More controls").click()
    for name in ("Search the log", "Range of time", "How times are shown"):
        box = await pane.page.get_by_label(name, exact=True).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width


async def test_full_screen_on_a_wall_and_back(pane: Pane) -> None:
    await pane.push([f"line {number}" for number in range(500)])
    await pane.open()
    full = pane.page.get_by_role("button", name="Full screen")
    before = await pane.js("pane.getBoundingClientRect().top")
    await full.click()
    await until(lambda: pane.page.evaluate("document.fullscreenElement?.localName === 'log-pane'"), what="full screen")
    await pane.until("pane.getBoundingClientRect().top === 0 && pane.getBoundingClientRect().height === innerHeight")
    await pane.page.locator("log-pane .row", has_text="line 499").wait_for()
    await pane.push(["line 500"])
    await pane.page.locator("log-pane .row", has_text="line 500").wait_for()
    await full.click()
    await until(lambda: pane.page.evaluate("document.fullscreenElement === null"), what="a window again")
    await pane.until(f"pane.getBoundingClientRect().top === {before}")


async def test_the_list_of_apps_leads_to_a_pane(pane: Pane) -> None:
    await pane.push(["a line"])
    await pane.page.goto(pane.url)
    await pane.page.get_by_role("link", name=pane.app, exact=True).click()
    await pane.page.locator("log-pane .row").wait_for()
    assert await pane.page.get_by_label("App", exact=True).input_value() == pane.app
    assert await axe(pane) == []


async def test_a_notice_can_not_be_missed(tmp_path: Path, context: BrowserContext) -> None:
    """A log file is written anew while the service is away, which says so when it is back."""
    async with Service(tmp_path) as service:
        identity = Identity(str(uuid.uuid4()), "web-1", "main", "local", "demo", "web", "web.1", 0, 2**62)
        identity.write(service.data / "identity")
        log = service.data / "pods" / str(identity.folder) / "main" / "0.log"
        log.parent.mkdir(parents=True)
        first = cri_line(10**18, "stdout", b"one")
        log.write_bytes(first + cri_line(10**18, "stdout", b"two"))
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        await pane.open()
        await pane.page.locator("log-pane .row", has_text="two").wait_for()
        assert await pane.page.locator("log-pane .gaps").is_hidden()
        service.kill()
        log.write_bytes(first + cri_line(10**18, "stdout", b"a different line altogether"))
        await service.start()
        gaps = pane.page.locator("log-pane .gaps", has_text="1 notice: lines may be missing")
        await gaps.wait_for()
        assert "Notice: " in await pane.page.locator("log-pane .row.notice").inner_text()
        await pane.push(f"line {number}" for number in range(200))
        await until(lambda: _gone(pane), what="the notice out of view")
        await gaps.click()
        await pane.page.locator("log-pane .row.notice").wait_for()

        await pane.page.keyboard.press("End")
        await pane.state("Live")
        for first in range(0, MOST_LINES + 5000, 5000):
            await pane.number(5000, first=first)
        await pane.until("!pane.log.lines.some(line => line.notice)")
        await gaps.click()
        await pane.page.locator("log-pane .row.notice").wait_for()
        await pane.page.get_by_role("button", name="Put the notices away").click()
        assert await gaps.is_hidden()
        await pane.page.keyboard.press("End")
        await pane.state("Live")
        await pane.page.keyboard.press("Home")
        await pane.page.locator("log-pane .row.notice").wait_for()
        assert await gaps.is_hidden()
        assert pane.complaints == []


async def _gone(pane: Pane) -> bool:
    return await pane.page.locator("log-pane .row.notice").count() == 0
