"""Filters, search, range and plot: what is shown is what the service says passes, and the address says it too."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Route

from tests.browser.panes import Pane
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def query_of(pane: Pane) -> dict[str, list[str]]:
    return parse_qs(urlsplit(pane.page.url).query)


async def shop(pane: Pane) -> None:
    """Ten lines of web.1, five of web.2, twenty of worker.1, three of them on stderr."""
    await pane.push([f"GET /orders/{number} 200" for number in range(10)], process="web", dyno="web.1")
    await pane.push([f"GET /orders/{number} 500" for number in range(5)], process="web", dyno="web.2")
    await pane.push([f"packed order {number}" for number in range(17)], process="worker")
    await pane.push([f"no box for Order {number}" for number in range(3)], process="worker", stream="stderr")


async def shows(pane: Pane, count: int) -> None:
    await until(lambda: counted(pane, count), what=f"{count} lines")


async def counted(pane: Pane, count: int) -> bool:
    return len(await pane.messages()) == count


async def test_chips_count_and_choose(pane: Pane) -> None:
    await shop(pane)
    await pane.open()
    chip = pane.page.locator("log-pane .chip")
    for text in ("web 15", "worker 20", "web.2 5", "stdout 32"):
        await chip.filter(has_text=text).wait_for()
    await pane.page.get_by_label("35 lines, 3 of them stderr").wait_for()
    for stream in ("stdout", "stderr"):
        bars = pane.page.locator(f"log-pane .plot rect.{stream}")
        assert max(await bars.evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().height)")) > 2
    await chip.filter(has_text="stderr 3").click()
    await shows(pane, 3)
    assert query_of(pane) == {"stream": ["stderr"]}
    await chip.filter(has_text="stdout").wait_for()
    await chip.filter(has_text="stderr").click()
    await shows(pane, 35)


async def test_what_is_hidden_stays_so_and_what_is_new_is_shown(pane: Pane) -> None:
    await shop(pane)
    await pane.open()
    chip = pane.page.locator("log-pane .chip")
    await chip.filter(has_text=re.compile("^worker ")).click(modifiers=["Shift"])
    await shows(pane, 15)
    assert query_of(pane) == {"not_process": ["worker"]}
    await pane.state("Live")
    await pane.push(["packed another"], process="worker")
    await pane.push(["tick"], process="clock")
    await shows(pane, 16)
    assert (await pane.messages())[-1] == "tick"
    await pane.page.reload()
    await shows(pane, 16)
    await pane.page.locator("log-pane .row", has_text="tick").click()
    await pane.page.get_by_role("button", name="Hide lines with stream stdout").click()
    await shows(pane, 0)
    await chip.filter(has_text="not stdout").click()
    await shows(pane, 16)
    await chip.filter(has_text="not worker").click()
    await shows(pane, 37)
    await chip.filter(has_text=re.compile("^clock ")).click()
    await chip.filter(has_text=re.compile("^worker ")).click()
    await shows(pane, 22)
    await chip.filter(has_text=re.compile("^worker ")).click(modifiers=["Shift"])
    await shows(pane, 1)
    assert query_of(pane) == {"process": ["clock"]}


async def test_a_search_highlights_and_goes_from_match_to_match(pane: Pane) -> None:
    await shop(pane)
    await pane.open()
    await pane.page.keyboard.press("/")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("/")
    await pane.page.keyboard.type("order ")
    await until(lambda: _marks(pane, 20), what="twenty marks")
    await pane.page.keyboard.press("Enter")
    current = pane.page.locator("log-pane .current .msg")
    assert await current.inner_text() == "no box for Order 2"
    await pane.page.keyboard.press("Enter")
    await until(lambda: _is(current.inner_text(), "no box for Order 1"), what="the one before")
    await pane.page.keyboard.press("Escape")
    await pane.page.keyboard.press("n")
    await until(lambda: _is(current.inner_text(), "no box for Order 2"), what="the next one")
    await pane.page.keyboard.press("f")
    await shows(pane, 20)
    assert query_of(pane) == {"q": ["order "], "only": ["1"]}


async def _marks(pane: Pane, count: int) -> bool:
    return await pane.page.locator("log-pane mark").count() == count


async def _is(value: Any, expected: str) -> bool:
    return await value == expected


async def test_a_match_far_above_is_found_by_the_service(pane: Pane) -> None:
    await pane.push(["the needle", *(f"hay {number}" for number in range(3000))])
    await pane.open("?q=needle")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("p")
    await pane.page.locator("log-pane .current", has_text="the needle").wait_for()
    await pane.page.keyboard.press("p")
    await pane.page.locator("log-pane .found", has_text="no earlier match").wait_for()


async def test_a_search_goes_on_where_the_service_stopped_for_a_while(pane: Pane) -> None:
    """It says how far it has got, which isn't a match, and where to go on; nothing was found or ruled out yet."""
    await pane.push(["the needle", *(f"hay {number}" for number in range(3000))])
    await pane.open("?q=needle")
    await pane.state("Live")
    asked: list[str] = []

    async def stop_early(route: Route) -> None:
        place = parse_qs(urlsplit(route.request.url).query)["before"][0]
        asked.append(place)
        notice = f'{{"notice":"not searched","cursor":"{place}","before":"{place}"}}'
        body = f"id: {place}\n\nevent: notice\nid: {place}\ndata: {notice}\n\nevent: end\ndata: {{}}\n\n"
        await route.fulfill(headers={"Content-Type": "text/event-stream"}, body=body)

    await pane.page.route("**/v1/apps/*/logs?*num=1&*", stop_early, times=2)
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("p")
    await pane.page.locator("log-pane .current", has_text="the needle").wait_for()
    assert len(asked) == 2
    assert await pane.page.locator("log-pane .found").inner_text() == ""


@pytest.mark.parametrize("query", ["q=needle", "q=n.*e.*dle&re=1"])
async def test_a_match_far_behind_in_a_line_is_not_skipped(pane: Pane, query: str) -> None:
    """The browser looks at the begin of a long line only; then the service is asked, also for the line before it."""
    far = "x" * 30_000
    await pane.push(["needle 0", *["hay"] * 3, f"{far} needle 1", "hay", f"{far} hay", "needle 2", "hay"])
    await pane.open(f"?{query}")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("Home")
    current = "[...pane.list.rows.children].findIndex(row => row.matches('.current'))"
    for key, index in (("n", 0), ("n", 4), ("n", 7), ("p", 4), ("p", 0)):
        await pane.page.keyboard.press(key)
        await pane.until(f"{current} === {index}")
    await pane.page.keyboard.press("p")
    await pane.page.locator("log-pane .found", has_text="no earlier match").wait_for()


async def test_a_search_that_fails_says_why(pane: Pane) -> None:
    await shop(pane)
    await pane.open("?q=%5B&re=1")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("p")
    found = pane.page.locator("log-pane .found")
    await found.filter(has_text="the search failed. grep_re: not a pattern that RE2 takes").wait_for()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=429, json={"detail": "Slow down."})

    await pane.open("?q=needle")
    await pane.page.route("**/v1/apps/*/logs?*num=1&*", refuse)
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("p")
    await found.filter(has_text="the search failed. The service asks to slow down (429).").wait_for()


async def test_a_pattern_is_the_services(pane: Pane) -> None:
    await shop(pane)
    await pane.open("?q=GET.*(200|500)%24&re=1&only=1")
    await shows(pane, 15)
    await until(lambda: _marks(pane, 15), what="fifteen marks")
    await pane.open("?q=%5B&re=1&only=1", wait=False)
    await pane.state("Stopped")
    assert "grep_re" in await pane.page.locator("log-pane .banner").inner_text()


async def test_a_click_on_a_value_includes_and_excludes(pane: Pane) -> None:
    await pane.push([f'{{"level":"info","status":{status},"path":"/"}}' for status in (200, 200, 404, 500)])
    await pane.open()
    await pane.page.locator("log-pane .row", has_text="404").click()
    await pane.page.get_by_role("button", name="Hide lines with status 404").click()
    await shows(pane, 3)
    assert query_of(pane) == {"exclude_re": [r'[{,]\s*"status"\s*:\s*404\s*[,}]']}
    await pane.page.locator("log-pane .row", has_text="500").click()
    await pane.page.get_by_role("button", name="Only lines with status 500").click()
    await shows(pane, 1)
    await pane.page.get_by_role("button", name="Remove the filter: without").click()
    await pane.page.get_by_role("button", name="Remove the filter: has").click()
    await shows(pane, 4)


async def test_a_value_is_the_whole_value(pane: Pane) -> None:
    """And not what begins or ends like it: hiding one line would hide others silently."""
    objects = [f'{{"status": {status},"path":"/"}}' for status in (404, 4041)]
    pairs = ["at=info id=1", "user_id=1 id=17", "id=1 at=info", "sid=1 at=info", 'id="1" at=info']
    await pane.push([*objects, '{"path":"/","status":404}', *pairs])
    await pane.open()
    await shows(pane, 8)
    await pane.page.locator("log-pane .row", has_text="4041").click()
    await pane.page.get_by_role("button", name="Hide lines with status 4041").click()
    await shows(pane, 7)
    await pane.page.get_by_role("button", name='Remove the filter: without "status":4041').click()
    await shows(pane, 8)
    await pane.page.locator("log-pane .row", has_text='"status": 404,').click()
    await pane.page.get_by_role("button", name="Only lines with status 404").click()
    await shows(pane, 2)
    assert await pane.page.locator("log-pane mark").all_inner_texts() == ['"status": 404', '"status":404']
    await pane.page.get_by_role("button", name='Remove the filter: has "status":404').click()
    await shows(pane, 8)
    await pane.page.locator("log-pane .row", has_text="at=info id=1").click()
    await pane.page.get_by_role("button", name="Hide lines with id 1", exact=True).click()
    await shows(pane, 6)
    assert [message for message in await pane.messages() if "id=" in message] == [pairs[1], *pairs[3:]]
    await pane.page.get_by_role("button", name="Remove the filter: without id=1").click()
    await shows(pane, 8)


async def test_a_filter_keeps_the_place_that_is_read(pane: Pane) -> None:
    """Whoever is far up in the log stays there, also where the line itself is hidden; whoever follows goes on so."""
    await pane.push([f"at=info id={number} odd={number % 2}" for number in range(5000)])
    await pane.open()
    await pane.state("Live")
    await pane.page.get_by_label("Search the log").fill("=")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("f")
    await pane.state("Live")
    await pane.page.keyboard.press("Home")
    await pane.page.locator("log-pane .row", has_text="id=0 ").wait_for()
    await pane.js("pane.list.show(700)")
    await pane.page.locator("log-pane .row", has_text="id=701 ").click()
    await pane.page.get_by_role("button", name="Hide lines with odd 1").click()
    await pane.page.locator("log-pane .row", has_text="id=702 ").wait_for()
    assert await pane.page.locator("log-pane .row", has_text="id=701 ").count() == 0
    await pane.state("Paused")
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("f")
    await pane.rest()
    await pane.page.locator("log-pane .row", has_text="id=702 ").wait_for()
    numbers = await pane.js("pane.log.lines.map(line => Number(/ id=(\\d+)/.exec(line.raw)[1]))")
    assert numbers == list(range(numbers[0], numbers[-1] + 1, 2))
    await pane.page.locator("log-pane .row", has_text="id=702 ").click()
    await pane.page.get_by_role("button", name="Only lines with odd 0").click()
    await pane.page.get_by_role("button", name="Hide lines with odd 0").wait_for(state="detached")
    await pane.page.locator("log-pane .row", has_text="id=702 ").wait_for()


async def test_where_no_line_behind_the_place_passes_those_in_front_of_it_are_shown(pane: Pane) -> None:
    await shop(pane)
    await pane.open()
    await pane.page.locator("log-pane .row", has_text="no box for Order 2").click()
    await pane.page.locator("log-pane .chip", has_text=re.compile("^web ")).click()
    await shows(pane, 15)
    await pane.state("Paused")


async def test_a_link_to_a_line_that_is_gone_says_so(pane: Pane) -> None:
    await shop(pane)
    await pane.open()
    await shows(pane, 35)
    cursor = await pane.js("pane.log.lines[3].cursor")
    await pane.open(f"?at={cursor}&process=worker")
    await pane.page.locator("log-pane .found", has_text="The line of this link isn't there any more").wait_for()


async def test_a_shared_address_shows_the_same(pane: Pane) -> None:
    await shop(pane)
    await pane.open("?process=worker&exclude=packed&other=kept")
    await shows(pane, 3)
    await pane.page.locator("log-pane .row", has_text="Order 1").click()
    await pane.page.get_by_role("button", name="Copy link").click()
    link = await pane.copied("at=")
    assert "other=kept" in link
    await pane.page.goto(link)
    await pane.page.locator("log-pane .current", has_text="Order 1").wait_for()
    await shows(pane, 3)


async def test_a_drag_over_the_plot_is_a_range(pane: Pane) -> None:
    now = datetime.now(UTC)
    times = [now - timedelta(minutes=minutes) for minutes in range(60, 0, -1)]
    await pane.push([{"message": f"at {time:%H:%M}", "time": time.isoformat()} for time in times])
    await pane.open()
    plot = pane.page.locator("log-pane .plot svg")
    await until(lambda: _bars(pane), what="bars")
    assert "60 lines" in (await plot.get_attribute("aria-label") or "")
    box = await plot.bounding_box()
    assert box is not None
    await pane.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + 10)
    await pane.page.mouse.down()
    await pane.page.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + 20)
    await pane.page.mouse.up()
    await pane.state("Range")
    held = len(await pane.messages())
    assert 15 <= held <= 25
    query = query_of(pane)
    assert set(query) == {"since", "until"}
    await pane.page.locator("log-pane .scroller").focus()
    await pane.page.keyboard.press("Escape")
    await shows(pane, 60)
    await pane.state("Live")


async def _bars(pane: Pane) -> bool:
    return await pane.page.locator("log-pane .plot rect").count() > 0


async def test_a_range_of_time_is_chosen_from_a_list(pane: Pane) -> None:
    old = datetime.now(UTC) - timedelta(hours=2)
    await pane.push([{"message": "old", "time": old.isoformat()}, {"message": "new"}])
    await pane.open()
    await shows(pane, 2)
    await pane.page.get_by_label("Range of time").select_option("1h")
    await shows(pane, 1)
    assert query_of(pane) == {"since": ["1h"]}


async def test_a_range_between_two_times_is_of_the_readers_clock(browser: Browser, pane: Pane) -> None:
    context = await browser.new_context(timezone_id="America/New_York", locale="en-GB")
    there = Pane(await context.new_page(), pane.url, pane.app)
    times = [f"2020-01-15T{hour:02}:00:00Z" for hour in range(24)]
    await there.push([{"message": time, "time": time} for time in times])
    await there.open()
    await there.page.get_by_label("Range of time").select_option("between")
    await there.page.get_by_label("From").fill("2020-01-14T21:30:00")
    await there.page.get_by_label("Up to").fill("2020-01-14T21:00:00")
    assert await there.js("pane.toolbar.until.validationMessage") == "The end is before the beginning."
    await there.page.get_by_label("Up to").fill("2020-01-15T00:30:00")
    await until(lambda: _holds(there, times[3:6]), what="the lines of the range")
    await there.state("Range")
    assert query_of(there) == {"since": ["2020-01-15T02:30:00.000Z"], "until": ["2020-01-15T05:30:00.000Z"]}
    await there.page.reload()
    await until(lambda: _holds(there, times[3:6]), what="the lines of the range")
    assert await there.page.get_by_label("From").input_value() == "2020-01-14T21:30"
    assert there.complaints == []
    await context.close()


async def test_times_of_the_plot_and_of_a_range_are_of_the_zone_that_is_chosen(browser: Browser, pane: Pane) -> None:
    context = await browser.new_context(timezone_id="America/New_York", locale="en-GB")
    there = Pane(await context.new_page(), pane.url, pane.app)
    times = [f"2020-01-15T{hour:02}:00:00Z" for hour in range(24)]
    await there.push([{"message": time, "time": time} for time in times])
    await there.open("?since=2020-01-15T02:00:00Z&until=2020-01-15T06:00:00Z")
    first, title = there.page.locator("log-pane .ends span").first, there.page.locator("log-pane .plot title").first
    await first.filter(has_text="2020-01-14 21:00:00 -05:00").wait_for()
    assert (await title.text_content() or "").startswith("2020-01-14 21:00:00.000 -05:00: 1 stdout")
    assert await there.page.get_by_label("From").input_value() == "2020-01-14T21:00"
    await there.page.get_by_label("How times are shown").select_option("utc")
    await first.filter(has_text="2020-01-15 02:00:00 UTC").wait_for()
    assert (await title.text_content() or "").startswith("2020-01-15 02:00:00.000 UTC: 1 stdout")
    assert await there.page.get_by_label("From").input_value() == "2020-01-15T02:00"
    await there.page.get_by_label("From").fill("2020-01-15T04:00:00")
    await until(lambda: _holds(there, times[4:6]), what="the lines of the range")
    assert there.complaints == []
    await context.close()


async def test_a_range_that_could_not_be_counted_is_counted_later(pane: Pane) -> None:
    """As where the service is busy, or the page was opened where nobody saw it."""
    await shop(pane)
    await pane.page.clock.install()
    await pane.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.unseen ?? true})")

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, json={"detail": "Busy."})

    refused: list[str] = []
    pane.page.on("response", lambda answer: refused.append(answer.url) if answer.status == 503 else None)
    await pane.page.route("**/v1/apps/*/volume?*", refuse, times=2)
    await pane.open("?since=1h&until=2030-01-01T00:00:00Z")
    await pane.state("Range")
    await pane.page.clock.run_for(20_000)
    assert not refused
    await pane.page.evaluate("(window.unseen = false, document.dispatchEvent(new Event('visibilitychange')), 0)")
    await until(lambda: refused, what="the first try")

    async def counted_later() -> bool:
        await pane.page.clock.run_for(5000)
        return await pane.page.locator("log-pane .chip", has_text="web 15").count() == 1

    await until(counted_later, what="the chips")


async def _holds(pane: Pane, messages: list[str]) -> bool:
    return await pane.js("pane.log !== undefined") and await pane.messages() == messages
