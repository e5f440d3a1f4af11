"""Lines so long that a few hundred of them are all that the pane holds: what is read stays, and nothing goes round."""

import pytest
from playwright.async_api import Request

from tests.browser.panes import Pane
from tests.support import numbered

pytestmark = pytest.mark.asyncio(loop_scope="package")

MOST_TEXT = 16_000_000
"""Characters that the pane holds (log.js)."""
READ = """(() => {
    const top = pane.scroller.getBoundingClientRect().top;
    const row = [...pane.list.rows.children].find(row => row.getBoundingClientRect().bottom > top + 1);
    return [row.querySelector('.msg').textContent, row.getBoundingClientRect().top - top];
})()"""
HELD = "pane.log.lines.reduce((sum, line) => sum + line.raw.length, 0)"


async def many(pane: Pane, count: int) -> None:
    """Lines of 4 KB."""
    for first in range(0, count, 500):
        await pane.push([numbered("w", seq, b"x" * 4000) for seq in range(first, first + 500)])


async def test_what_is_read_stays_while_long_lines_are_forgotten_below_it(pane: Pane) -> None:
    await many(pane, 5000)
    await pane.open()
    await pane.wheel(-400)
    await pane.state("Paused")
    await pane.rest()
    while await pane.js("pane.log.top") != "done":
        first, read = await pane.js(f"(pane.list.show(60), [pane.log.lines[0].cursor, {READ}])")
        await pane.until(f"pane.log.lines[0].cursor !== '{first}'")
        await pane.rest()
        assert await pane.js(READ) == read
        assert await pane.js(HELD) < 1.25 * MOST_TEXT
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)
    assert tally.lines < 5000


async def test_what_is_read_stays_while_long_lines_are_forgotten_above_it(pane: Pane) -> None:
    await many(pane, 5000)
    await pane.open()
    await pane.page.keyboard.press("Home")
    await pane.until("pane.log.top === 'done' && pane.log.lines.length > 500")
    newest = "Number(/seq=(\\d+)/.exec(pane.log.lines.at(-1).raw)[1])"
    while (seen := await pane.js(newest)) < 4999:
        read = await pane.js(f"(pane.list.show(pane.log.lines.length - 60), {READ})")
        await pane.until(f"{newest} > {seen}")
        await pane.rest()
        assert await pane.js(READ) == read
        assert await pane.js(HELD) < 1.25 * MOST_TEXT
    tally = await pane.tally()
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)
    assert tally.lines < 5000


async def test_who_follows_lines_of_a_megabyte_asks_for_nothing_twice(pane: Pane) -> None:
    await pane.push([f"short {number}" for number in range(500)])
    for number in range(20):
        await pane.push([f"{number} " + "x" * 1_000_000])
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/logs?" in request.url:
            asked.append(request.url.partition("?")[2])

    pane.page.on("request", note)
    await pane.open()
    await pane.state("Live")
    for number in range(5):
        await pane.push([f"behind {number}"])
        await pane.page.locator("log-pane .row", has_text=f"behind {number}").wait_for()
        await pane.rest()
    await pane.state("Live")
    assert len(asked) == 1, asked

    await pane.wheel(-400)
    await pane.state("Paused")
    await pane.until("(pane.list.show(0), pane.log.top === 'done')")
    assert await pane.js("pane.log.lines[0].fields.message") == "short 0"
    assert any("before=" in query for query in asked)
    await pane.rest()
    count = len(asked)
    await pane.page.keyboard.press("End")
    await pane.state("Live")
    await pane.page.locator("log-pane .row", has_text="behind 4").wait_for()
    await pane.rest()
    assert len(asked) <= count + 1, asked
