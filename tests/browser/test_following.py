"""Live and history in one scroll, without a jump, a seam, or a line lost or doubled."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from playwright.async_api import BrowserContext, Error, Locator, Request, Route

from tests.browser.panes import Pane
from tests.chaos.proxy import cutting
from tests.chaos.writer import Writer, Writing
from tests.support import numbered, until
from tests.support.service import Service
from tests.support.wait import DEADLINE

pytestmark = pytest.mark.asyncio(loop_scope="package")

MOST = 20_000
"""Lines that the pane holds (log.js)."""


async def test_new_lines_come_below_the_last_ones(pane: Pane) -> None:
    await pane.number(1000)
    await pane.open()
    await pane.state("Live")
    await pane.number(50, first=1000)
    await pane.until("pane.log.lines.at(-1).fields.message.includes('seq=1049 ')")
    await until(lambda: _last_shown(pane, "seq=1049 "), what="the newest line in view")
    assert await pane.js("pane.list.rows.childElementCount") < 100
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def test_the_first_lines_are_asked_for_once_and_before_the_pane_is_there(pane: Pane) -> None:
    await pane.number(10)
    asked: list[str] = []
    began = asyncio.Event()

    def note(request: Request) -> None:
        if "tail=true" in request.url:
            asked.append(request.url)
            began.set()

    async def hold_back(route: Route) -> None:
        await asyncio.wait_for(began.wait(), DEADLINE)
        await route.continue_()

    pane.page.on("request", note)
    await pane.page.route("**/pane/page.js*", hold_back)
    for query in ("", "?process=web&q=orders&only=1", "?since=1h"):
        asked.clear()
        began.clear()
        await pane.open(query)
        await pane.state("Live")
        (await pane.tally()).check({"w": 10})
        assert len(asked) == 1
    await pane.number(10, first=10)
    await pane.until("pane.log.lines.length === 20")


async def test_where_a_search_took_too_long_it_goes_on_as_one_scrolls(pane: Pane) -> None:
    """An answer that ended early says so; that vanishes where lines take its place."""
    await pane.number(1200)
    seen, answers = asyncio.Event(), 0

    async def end_early(route: Route) -> None:
        nonlocal answers
        answers += 1
        if answers == 1:
            place = parse_qs(urlsplit(route.request.url).query)["before"][0]
            notice = f'{{"notice":"not searched","cursor":"{place}","before":"{place}"}}'
            body = f"event: notice\nid: {place}\ndata: {notice}\n\nevent: end\ndata: {{}}\n\n"
            await route.fulfill(headers={"Content-Type": "text/event-stream"}, body=body)
        else:
            await asyncio.wait_for(seen.wait(), DEADLINE)
            await route.continue_()

    await pane.open()
    await pane.state("Live")
    await pane.page.route("**/v1/apps/*/logs?*before=*", end_early)
    await pane.wheel(-400)
    await pane.wheel_until(pane.page.locator("log-pane .row", has_text="not searched").is_visible, -3000)
    assert await pane.page.locator("log-pane .gaps").is_hidden()
    seen.set()
    await pane.wheel_until(lambda: pane.js("pane.log.top === 'done' && pane.scroller.scrollTop < 1"), -3000)
    assert answers > 1
    (await pane.tally()).check({"w": 1200})


async def _last_shown(pane: Pane, text: str) -> bool:
    return text in (await pane.shown() or [""])[-1]


async def test_scrolling_up_pauses_and_loads_down_to_the_first_line(pane: Pane) -> None:
    await pane.number(3000)
    await pane.open()
    await pane.wheel(-400)
    await pane.state("Paused")
    await pane.wheel_until(lambda: pane.js("pane.log.top === 'done' && pane.scroller.scrollTop < 1"), -3000)
    assert "seq=0 " in (await pane.shown())[0]
    await pane.page.locator("log-pane .edge", has_text="The first line kept").wait_for()
    (await pane.tally()).check({"w": 3000})


async def test_what_is_read_stays_where_it_is(pane: Pane) -> None:
    """While older lines are put above it and new ones below."""
    await pane.number(4000)
    await pane.open()
    await pane.wheel(-3000)
    await pane.state("Paused")
    await pane.until("(pane.log.lines.length >= 1300 && pane.log.top === 'more')")
    where = """(() => {
        const top = pane.scroller.getBoundingClientRect().top;
        const row = [...pane.list.rows.children].find(row => row.getBoundingClientRect().top >= top);
        return [row.querySelector('.msg').textContent, row.getBoundingClientRect().top - top];
    })()"""
    await pane.rest()
    before, held = await pane.js(where), await pane.js("pane.log.lines.length")
    await pane.js("void pane.log.older()")
    await pane.until(f"pane.log.lines.length >= {held + 1000}")
    await pane.number(100, first=4000)
    await pane.until("pane.log.unseen === 100")
    await pane.rest()
    assert await pane.js(where) == before
    back = pane.page.locator("log-pane .back")
    await until(lambda: _says(back, "↓ 100 new lines"), what="the number of new lines")
    await back.click()
    await pane.state("Live")
    await until(lambda: _last_shown(pane, "seq=4099 "), what="the newest line in view")
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def _says(locator: Locator, text: str) -> bool:
    return await locator.inner_text() == text


async def test_a_view_that_changes_its_height_does_not_pause(pane: Pane) -> None:
    """As it does when a message above the lines comes and goes while connections fail."""
    await pane.number(1000)
    await pane.open()
    await pane.state("Live")
    await pane.js("""(async () => {
        const { scroller } = pane;
        for (let turn = 0; turn < 20; turn++) {
            scroller.style.maxHeight = "200px";
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            await new Promise((done) => {
                const observer = new ResizeObserver(() => {
                    if (scroller.clientHeight === 200) return;
                    observer.disconnect();
                    queueMicrotask(() => { scroller.style.maxHeight = "200px"; done(); });
                });
                observer.observe(scroller);
                scroller.style.maxHeight = "";
            });
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }
    })()""")
    assert await pane.js("pane.log.following && pane.list.following")
    await pane.state("Live")


async def test_far_lines_are_forgotten_and_loaded_again(pane: Pane) -> None:
    count = 22_500
    await pane.number(count)
    await pane.open()
    await pane.js("pane.scroller.focus()")
    await pane.page.keyboard.press("Home")
    await until(lambda: _first_shown(pane, "seq=0 "), what="the first line")
    newest = "Number(/seq=(\\d+)/.exec(pane.log.lines.at(-1).fields.message)[1])"
    while (seen := await pane.js(newest)) < count - 1:
        await pane.js("pane.list.show(pane.log.lines.length - 1)")
        await pane.until(f"{newest} > {seen}")
        assert await pane.js("pane.log.lines.length") <= MOST
    tally = await pane.tally()
    assert tally.lines < count
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)
    await pane.page.keyboard.press("End")
    await pane.state("Live")
    await until(lambda: _last_shown(pane, f"seq={count - 1} "), what="the newest line in view")


async def _first_shown(pane: Pane, text: str) -> bool:
    return text in (await pane.shown() or [""])[0]


async def test_who_reads_old_lines_holds_no_more_than_the_most(pane: Pane) -> None:
    await pane.number(1000)
    await pane.open()
    await pane.state("Live")
    await pane.page.keyboard.press("Space")
    await pane.state("Paused")
    for first in range(1000, 1000 + MOST + 5000, 5000):
        await pane.number(5000, first=first)
    await pane.until("pane.log.unseenMore")
    assert await pane.js("pane.log.lines.length") < MOST + 10_000
    await pane.page.locator("log-pane .back", has_text="↓ More than ").wait_for()
    await pane.page.keyboard.press("Space")
    await pane.state("Live")
    await until(lambda: _last_shown(pane, f"seq={1000 + MOST + 4999} "), what="the newest line in view")


async def test_a_flood_is_drawn_seldom_and_kept_whole(pane: Pane) -> None:
    """The page's clock stands still while lines come, so that the rate is what the test says."""
    await pane.number(1)
    await pane.page.clock.install()
    await pane.open()
    await pane.state("Live")
    await pane.page.clock.pause_at(await pane.page.evaluate("Date.now() / 1000 + 20"))
    await _flood(pane, 1, 12_000)
    await pane.page.clock.run_for(1250)
    await pane.state("drawn 4 times a second, none lost")
    drawn = await pane.js("pane.list.drawn")
    for turn in range(12):
        await _flood(pane, 12_001 + turn * 1500, 1500)
        await pane.page.clock.run_for(100)
    assert 1 <= await pane.js("pane.list.drawn") - drawn <= 6
    await pane.page.clock.run_for(3000)
    assert await pane.page.locator("log-pane .pill").inner_text() == "Live"
    assert "seq=30000 " in (await pane.shown())[-1]
    tally = await pane.tally()
    assert tally.lines > MOST / 2
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def _flood(pane: Pane, first: int, count: int) -> None:
    """Write lines, and wait until the pane has them."""
    before = await pane.js("pane.log.received")
    await pane.number(count, first=first)
    await pane.until(f"pane.log.received === {before + count}")


async def test_a_cut_connection_loses_and_doubles_nothing(tmp_path: Path, context: BrowserContext) -> None:
    rng = random.Random(8)
    async with Service(tmp_path) as service, cutting(lambda: service.port, rng, 60_000) as wire:
        await service.start()
        wire.cutting = False
        with Writer(service.data, Writing(rate=1000)) as writer:
            pane = Pane(await context.new_page(), f"http://127.0.0.1:{wire.port}", "demo")
            await until(lambda: _listed(service), what="the app")
            await pane.open()
            await pane.state("Live")
            wire.cutting = True

            async def cut() -> bool:
                # As who clicks "Try now" again and again: each cut may be waited for longer than the one before.
                await pane.js("pane.log.retry()")
                return wire.cuts >= 10

            await until(cut, 180, "ten cuts")
            report = writer.finish()
            wire.cutting = False
            await _complete(pane, report.written)
        assert await pane.js("pane.log.following && pane.list.following"), "it paused by itself"


async def _listed(service: Service) -> bool:
    async with aiohttp.ClientSession() as client, client.get(f"{service.logs}?num=1") as response:
        return response.status == 200 and bool(await response.read())


async def _complete(pane: Pane, written: dict[str, int]) -> None:
    """Wait for the last line of each writer, as who clicks "Try now" again and again, and check them all."""
    newest = "(/seq=(\\d+)/.exec(pane.log.lines.findLast(line => line.raw.includes('writer=%s '))?.raw)?.[1] === '%d')"
    last = " && ".join(newest % (name, count - 1) for name, count in written.items())
    await pane.until(f"(pane.log.retry(), {last})", 120)
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0), str(tally)


LEFT = """(() => {
    const { log } = pane, { told } = log;
    window.left = '';
    log.told = () => {
        left ||= log.connection.state === 'live' ? '' : log.connection.state;
        told();
    };
})()"""
"""Notes down the first state after live: the page may be too busy to show one that is short."""


async def test_a_service_that_stops_in_order_is_expected_back(tmp_path: Path, context: BrowserContext) -> None:
    """It says so before it goes: no reason for alarm, unless it stays away. Who is killed says nothing."""
    async with Service(tmp_path) as service:
        await service.start()
        with Writer(service.data, Writing(rate=500)) as writer:
            await until(lambda: _listed(service), what="the app")
            pane = Pane(await context.new_page(), service.url, "demo")
            await pane.open()
            await pane.state("Live")
            await pane.js(LEFT)
            assert await service.stop() == 0
            assert await pane.until("left") == "connecting"
            await service.start()
            await pane.state("Live")
            await pane.js("void (window.left = '')")
            service.kill()
            assert await pane.until("left") == "away"
            await pane.state("Reconnecting")
            await pane.page.locator("log-pane .banner", has_text="No line is").wait_for()
            await service.start()
            await pane.state("Live")
            await _complete(pane, writer.finish().written)


async def test_the_service_says_when_to_come_back(pane: Pane) -> None:
    """The pause is the service's, give or take a half, so that not all panes are back at once."""
    await pane.push(["a line"])
    asked: list[str] = []

    async def leave(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(status=200, content_type="text/event-stream", body="retry: 100000\n\n")

    await pane.page.clock.install()
    await pane.page.route("**/v1/apps/*/logs?*", leave, times=1)
    await pane.open(wait=False)
    await until(lambda: asked, what="the first request")
    await pane.state("Connecting")
    await pane.page.clock.run_for(40_000)
    assert await pane.js("pane.log.lines.length") == 0
    assert await pane.page.locator("log-pane .banner").is_hidden()
    await pane.page.clock.run_for(115_000)
    await pane.state("Live")
    await pane.until("pane.log.lines.length === 1")


async def test_older_lines_that_can_not_be_had_are_asked_for_again(pane: Pane) -> None:
    """Live goes on meanwhile."""
    await pane.number(3000)

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "The store is away."})

    await pane.page.route("**/v1/apps/*/logs?*before=*", refuse)
    await pane.open()
    await pane.state("Live")
    await pane.wheel(-6000)
    banner = pane.page.locator("log-pane .banner")
    await banner.get_by_text("Older lines can't be loaded. The service can't answer now (503)").wait_for()
    await pane.state("Paused")
    await pane.number(10, first=3000)
    await pane.until("pane.log.unseen === 10")
    await pane.page.unroute("**/v1/apps/*/logs?*before=*")
    await pane.wheel_until(lambda: pane.js("pane.log.top === 'done'"), -3000)
    await banner.wait_for(state="hidden")
    (await pane.tally()).check({"w": 3010})


async def test_older_lines_over_a_wire_that_is_cut(pane: Pane) -> None:
    """In the middle of a line, and before anything came."""
    for first in range(0, 4000, 500):
        await pane.number(500, first=first)
    cuts = [100_000, 0, 20_000]

    async def cut(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=(await answer.body())[: cuts.pop()])

    await pane.page.route("**/v1/apps/*/logs?*before=*", cut, times=len(cuts))
    await pane.open()
    await pane.wheel(-400)
    await pane.state("Paused")

    async def arrived() -> bool:
        return await pane.js("(pane.log.retry(), pane.log.top === 'done' && pane.scroller.scrollTop < 1)")

    await pane.wheel_until(arrived, -6000)
    assert cuts == []
    (await pane.tally()).check({"w": 4000})


async def test_scrolling_up_while_many_lines_come(pane: Pane) -> None:
    for first in range(0, 4000, 500):
        await pane.number(500, first=first)
    await pane.open()
    await pane.state("Live")

    async def write() -> None:
        for first in range(4000, 12_000, 500):
            await pane.number(500, first=first)

    async def at_first() -> bool:
        return "seq=0 " in (await pane.shown())[0]

    writing = asyncio.create_task(write())
    await pane.wheel(-400)
    await pane.state("Paused")
    await pane.wheel_until(at_first, -6000)
    await writing
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("End")
    await pane.state("Live")
    await until(lambda: _last_shown(pane, "seq=11999 "), what="the newest line in view")


async def test_a_connection_that_has_died_without_a_word_is_noticed(pane: Pane) -> None:
    """The service says something each 20 s; here it has no time to, as the page's clock runs ahead of it."""
    await pane.number(10)
    asked: list[str] = []
    pane.page.on("request", lambda request: asked.append(request.url) if "tail=true" in request.url else None)
    await pane.page.clock.install()
    await pane.open()
    await pane.state("Live")
    await pane.js(LEFT)

    async def again() -> bool:
        await pane.page.clock.run_for(5000)
        return len(asked) > 1

    await until(again, what="another connection")
    assert "after=" in asked[1]
    assert await pane.js("left") == "away"
    await pane.state("Live")
    await pane.number(10, first=10)
    await pane.until("pane.log.lines.length === 20")
    (await pane.tally()).check({"w": 20})


async def test_older_lines_that_come_too_late_are_not_put_anywhere(pane: Pane) -> None:
    """Whoever goes to the newest lines while older ones are on their way gets no seam."""
    await pane.number(9000)
    await pane.open()
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("Home")
    await until(lambda: _first_shown(pane, "seq=0 "), what="the first line")
    cursor = await pane.js("pane.log.lines[500].cursor")
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await pane.page.route("**/v1/apps/*/logs?*before=*", hold)
    await pane.open(f"?at={cursor}", wait=False)
    await until(lambda: held, what="the request for older lines")
    await pane.page.unroute("**/v1/apps/*/logs?*before=*")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("End")
    await until(lambda: _last_shown(pane, "seq=8999 "), what="the newest line in view")
    with suppress(Error):  # nobody waits for it any more
        await held[0].continue_()
    await pane.wheel_until(lambda: pane.js("pane.log.lines.length > 2000"), -3000)
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def test_an_app_that_has_no_lines_yet_is_waited_for(pane: Pane) -> None:
    await pane.open(wait=False)
    await pane.state("Reconnecting")
    assert "has no lines yet" in await pane.page.locator("log-pane .banner").inner_text()
    await pane.push([numbered("w", 0)])
    await pane.state("Live")
    await until(lambda: _last_shown(pane, "seq=0"), what="the first line")
