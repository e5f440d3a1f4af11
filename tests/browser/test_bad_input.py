"""Messages that would harm, hide or lie, and a service that says no: words on the pane, and what to do."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Route

from tests.browser.panes import Pane
from tests.support import until
from tests.support.service import Service
from tests.support.tokens import AUDIENCE, Issuer

pytestmark = pytest.mark.asyncio(loop_scope="package")

HOSTILE = [
    "<script>window.hurt = 1</script>",
    '<img src=x onerror="window.hurt = 1">',
    "</span></div><svg onload=window.hurt=1>",
    "javascript:window.hurt=1",
    "{{constructor.constructor('window.hurt=1')()}}",
    '{"__proto__":{"hurt":1},"<b>name</b>":"<i>value</i>"}',
]


async def test_markup_is_text(pane: Pane) -> None:
    await pane.push(HOSTILE)
    await pane.open()
    assert await pane.shown() == HOSTILE
    await pane.page.locator("log-pane .row", has_text="__proto__").click()
    assert await pane.page.locator("log-pane dt", has_text="<b>name</b>").count() == 1
    assert await pane.page.locator("log-pane :is(script, img, svg svg, b, i)").count() == 0
    assert await pane.page.evaluate("window.hurt === undefined && {}.hurt === undefined")
    await pane.open("?q=%3Cscript%3E&only=1&process=%22%3E%3Cscript%3E", wait=False)
    await pane.state("Stopped")


async def test_what_hides_becomes_visible(pane: Pane) -> None:
    await pane.push(["user\u202egnp.exe", "pass\u200bword", "nul\0bell\x07", "a\rb", "back\x08space", "👩\u200d💻 ok"])
    await pane.open()
    assert await pane.shown() == [
        "user⟨U+202E⟩gnp.exe",
        "pass⟨U+200B⟩word",
        "nul␀bell␇",
        "a␍b",
        "back␈space",
        "👩\u200d💻 ok",
    ]


async def test_a_joiner_that_joins_nothing_becomes_visible(pane: Pane) -> None:
    """Whatever script it stands in; between emoji and in letters that are written with it, it stays."""
    spoofed = ["п\u200d\u200c\u200d\u200dл", "日\u200d本", "é\ufe0f", "👩\u200dx", "👩\u200d\u200d💻"]
    unseen = ["\U0001d173x", "\U0001bca0x", "\ufff0x"]
    written = ["👩🏽\u200d💻", "🏳\ufe0f\u200d🌈", "می\u200cخ", "क्\u200dष"]
    await pane.push([*spoofed, *unseen, *written])
    await pane.open()
    assert await pane.shown() == [
        "п⟨U+200D⟩⟨U+200C⟩⟨U+200D⟩⟨U+200D⟩л",
        "日⟨U+200D⟩本",
        "é⟨U+FE0F⟩",
        "👩⟨U+200D⟩x",
        "👩⟨U+200D⟩⟨U+200D⟩💻",
        "⟨U+1D173⟩x",
        "⟨U+1BCA0⟩x",
        "⟨U+FFF0⟩x",
        *written,
    ]


async def test_what_hides_in_a_field_becomes_visible(pane: Pane) -> None:
    """JSON may spell it out, so that it hides only once it is read."""
    await pane.push([r'{"user":"abc\u202egnp.exe","pass\u200bword":"\u001b[31mred","long":"' + "y" * 3000 + '"}'])
    await pane.open()
    await pane.page.locator("log-pane .row").click()
    details = pane.page.locator("log-pane .details")
    assert (await details.locator("dt").all_inner_texts())[5:8] == ["user", "pass⟨U+200B⟩word", "long"]
    user, red, long = (await details.locator("bdi").all_inner_texts())[5:8]
    assert (user, red) == ("abc⟨U+202E⟩gnp.exe", "red")
    assert long == "y" * 1000 + " … 2,000 more characters"
    await pane.page.get_by_role("button", name="Only lines with user abc⟨U+202E⟩gnp.exe").click()
    await pane.page.get_by_role("button", name=r'Remove the filter: has "user":"abc\u202egnp.exe"').wait_for()


@pytest.mark.parametrize("text", ["x" * 250_000, "a=" * 120_000 + '"', 'a="' + '\\"a=' * 60_000])
async def test_a_long_line_unfolds_at_once(pane: Pane, text: str) -> None:
    """Whatever it looks like: a pattern that goes through it again and again would take minutes."""
    await pane.push([text, f'{{"text":"{"y" * 200_000}","last":1}}'])
    await pane.open()
    for row, fields in ((0, 0), (1, 2)):
        await pane.page.locator("log-pane .row").nth(row).click()
        await pane.page.get_by_role("button", name="Copy text").wait_for(timeout=30_000)
        assert await pane.page.locator("log-pane .details dt").count() == 6 + fields
        await pane.page.get_by_role("button", name="Close").click()


async def test_a_long_line_is_cut_on_the_pane_and_whole_in_the_log(pane: Pane) -> None:
    await pane.push(["x" * 1_000_000, "behind"])
    await pane.open()
    shown = await pane.shown()
    assert shown[-1] == "behind"
    assert all(len(text) < 2200 for text in shown)
    assert "more characters" in shown[0]
    assert "goes on in the next line" in shown[0]
    assert sum(len(message) for message in (await pane.messages())[:-1]) == 1_000_000


async def test_a_hundred_thousand_escape_sequences(pane: Pane) -> None:
    await pane.push(["\x1b[31mr\x1b[32mg" * 20_000, "\x1b[" * 100_000, "\x1b]8;;" * 50_000, "behind"])
    await pane.open()
    await pane.page.locator("log-pane .row", has_text="behind").wait_for()
    assert await pane.js("pane.list.rows.querySelectorAll('span').length") < 2000
    await pane.page.locator("log-pane .row").first.click()
    await pane.page.locator("log-pane .details").wait_for()
    assert await pane.js("pane.list.rows.querySelectorAll('span').length") < 6000


async def test_right_to_left_text_stays_in_its_line(pane: Pane) -> None:
    await pane.push(["שלום status=200 עולם"])
    await pane.open()
    row = await pane.page.locator("log-pane .row").bounding_box()
    who = await pane.page.locator("log-pane .who").bounding_box()
    msg = await pane.page.locator("log-pane .msg").bounding_box()
    assert row is not None
    assert who is not None
    assert msg is not None
    assert row["x"] < who["x"] < msg["x"]


async def test_a_pattern_that_would_take_for_ever_is_not_tried_here(pane: Pane) -> None:
    await pane.push(["a" * 5000 + "!"])
    await pane.open("?q=(a%2B)%2B%24&re=1")
    assert await pane.page.locator("log-pane mark").count() == 0
    for pattern in ("a*a*a*a*b", "a*a*b", "a?" * 30 + "a" * 30 + "b"):
        await pane.open(f"?q={pattern}&re=1")
        assert await pane.page.locator("log-pane mark").count() == 0


@pytest.mark.parametrize(
    ("status", "headers", "state", "words"),
    [
        (401, {}, "Stopped", "Your session has expired. Sign in again"),
        (403, {}, "Stopped", "You may not read this log"),
        (429, {"Retry-After": "799"}, "Reconnecting", r"slow down \(429\). Trying again in [67]\d\d s"),
        (503, {"Retry-After": "2"}, "Reconnecting", r"can't answer now \(503\)"),
        (502, {}, "Reconnecting", r"can't answer now \(502\)"),
    ],
)
async def test_a_refusal_is_said_in_words(
    pane: Pane, status: int, headers: dict[str, str], state: str, words: str
) -> None:
    """What stands between the pane and the service answers; then it doesn't any more, and the pane goes on."""
    await pane.push(["a line"])

    async def refuse(route: Route) -> None:
        await route.fulfill(status=status, headers=headers, body="<h1>no</h1>")

    await pane.page.route("**/v1/apps/*/logs?*", refuse)
    await pane.page.add_init_script("addEventListener('sessionexpired', () => { window.expired = true })")
    await pane.open(wait=False)
    await pane.state(state)
    banner = pane.page.locator("log-pane .banner")
    await banner.get_by_text(re.compile(words)).wait_for()
    assert await pane.page.evaluate("window.expired === true") == (status == 401)
    await pane.page.unroute("**/v1/apps/*/logs?*")
    if status in {401, 403, 429}:  # else it tries again by itself, perhaps before the click
        await banner.get_by_role("button", name="Try now").click()
    await pane.state("Live")
    await pane.page.locator("log-pane .row").wait_for()
    await banner.wait_for(state="hidden")
    assert await pane.shown() == ["a line"]


async def test_a_link_leads_to_its_line_once_one_is_signed_in(pane: Pane) -> None:
    await pane.push([f"line {number}" for number in range(2000)])
    await pane.open()
    cursor = await pane.js("pane.log.lines[10].cursor")
    message = (await pane.messages())[10]

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401)

    await pane.page.route("**/v1/apps/*/logs?*", refuse)
    await pane.open(f"?at={cursor}", wait=False)
    await pane.state("Stopped")
    await pane.page.unroute("**/v1/apps/*/logs?*")
    await pane.give("a new token")
    await pane.page.locator("log-pane .current", has_text=message).wait_for()
    await pane.state("Paused")


@pytest.mark.parametrize("name", ["%FF", "%E0%A4%A", "a%20b", "a%2Fb"])
async def test_a_name_that_no_app_can_have(pane: Pane, name: str) -> None:
    pane.app = name
    await pane.open(wait=False)
    await pane.state("Stopped")
    assert "No app has such a name" in await pane.page.locator("log-pane .banner").inner_text()


@pytest.mark.parametrize("place", ["9.9.9.9", "1.1.99999999.0"])
async def test_a_link_that_leads_nowhere_says_so_and_leads_to_the_newest_lines(pane: Pane, place: str) -> None:
    await pane.number(10)
    await pane.open(f"?at={place}&process=web", wait=False)
    await pane.state("Stopped")
    banner = pane.page.locator("log-pane .banner", has_text="The service does not know this place in the log")
    await banner.get_by_role("button", name="Go to the newest lines").click()
    await pane.state("Live")
    await banner.wait_for(state="hidden")
    await pane.until("pane.log.lines.length === 10")
    assert pane.page.url.endswith("?process=web")


@pytest.mark.timeout(300)
async def test_a_log_that_was_begun_anew(tmp_path: Path, context: BrowserContext) -> None:
    """The place that the pane goes on from isn't there any more, so it asks what to do."""
    async with Service(tmp_path, procfile=None) as service:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        for first in range(5):
            await pane.number(1, first=first)
        await pane.open()
        await pane.state("Live")
        service.kill()
        shutil.rmtree(service.data)
        await service.start()
        await pane.push(["a new line"])
        banner = pane.page.locator("log-pane .banner", has_text="The service does not know this place in the log")
        await banner.get_by_role("button", name="Go to the newest lines").click(timeout=90_000)
        await pane.page.locator("log-pane .row", has_text="a new line").wait_for()
        await pane.state("Live")
        assert await pane.messages() == ["a new line"]
        assert pane.complaints == []


async def test_a_token_that_expires_is_asked_for_anew(tmp_path: Path, context: BrowserContext) -> None:
    issuer = Issuer()
    (tmp_path / "jwks").write_bytes(issuer.jwks())
    settings = {"auth.jwks": tmp_path / "jwks", "auth.audience": AUDIENCE, "auth.leeway": 0}
    async with Service(tmp_path / "service", procfile=None, settings=settings) as service:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        pane.token = issuer.token()
        await pane.number(10)
        await pane.page.add_init_script(
            "window.expired = 0; addEventListener('sessionexpired', () => { window.expired += 1 })"
        )
        await pane.open(wait=False)
        expired = pane.page.locator("log-pane .banner", has_text="Your session has expired. Sign in again")
        await expired.wait_for()
        await pane.give(issuer.token(seconds=6))
        await pane.page.locator("log-pane .row").first.wait_for()
        await until(lambda: pane.page.evaluate("window.expired === 2"), what="the end of the token")
        await expired.wait_for()
        await pane.state("Stopped")
        await pane.number(10, 10)
        await pane.give(issuer.token())
        await pane.state("Live")
        await pane.until("pane.log.lines.length === 20")
        (await pane.tally()).check({"w": 20})
        await expired.wait_for(state="hidden")
        assert pane.complaints == []
