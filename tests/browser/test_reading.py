"""What a line looks like, unfolds into, and can be taken away as."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from playwright.async_api import Browser, BrowserContext, Download, Locator, Route

from logsvc.client.colours import Palette
from tests.browser.panes import Pane
from tests.support import Tally, until
from tests.support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="package")

TRACE = [
    "Traceback (most recent call last):",
    '  File "shop.py", line 7, in pack',
    "    box[order]",
    "KeyError: 17",
]


async def test_colours_of_a_message_are_shown(pane: Pane) -> None:
    await pane.push(["\x1b[31mred\x1b[0m plain \x1b[1;38;2;1;2;3mdark\x1b[0m \x1b[44mpaper\x1b[0m \x1b[2Jgone"])
    await pane.open()
    message = pane.page.locator("log-pane .msg")
    assert await message.inner_text() == "red plain dark paper gone"
    assert await message.locator(".a-1").inner_text() == "red"
    assert await message.locator(".a-bold.a-fg").inner_text() == "dark"
    assert await message.locator(".a-bg").inner_text() == "paper"


async def test_colours_are_understood_with_colons_too(pane: Pane) -> None:
    """As ISO 8613-6 has them: with an empty colour space, and without."""
    await pane.push(["\x1b[38:2::255:0:0ma\x1b[0m \x1b[38:2:255:0:0mb\x1b[0m \x1b[38:5:1mc\x1b[0;4:3md\x1b[4:0me"])
    await pane.open()
    message = pane.page.locator("log-pane .msg")
    assert await message.inner_text() == "a b cde"
    colours = await message.locator(".a-fg").evaluate_all("runs => runs.map(run => run.style.getPropertyValue('--fg'))")
    assert colours == ["#ff0000", "#ff0000"]
    assert await message.locator(".a-1").inner_text() == "c"
    assert await message.locator(".a-underline").inner_text() == "d"
    assert await message.locator(".a-italic").count() == 0


async def test_processes_have_the_colours_of_the_command_line(pane: Pane) -> None:
    """Each message is written in the colour that `paas logs` gives its process."""
    palette = Palette()
    for process in ("web", "worker", "run", "clock", "mail", "router", "cron-a", "cron-b"):
        on, off = palette.style(process)
        await pane.push([f"{on}{process}{off}"], process=process)
    await pane.open()
    rows = pane.page.locator("log-pane .row")
    await rows.nth(7).wait_for()
    looks = await rows.evaluate_all("""rows => rows.map(row => ['.who', '.msg span'].map(part => {
        const { color, fontWeight } = getComputedStyle(row.querySelector(part));
        return `${color} ${fontWeight}`;
    }))""")
    assert [who for who, _ in looks] == [message for _, message in looks]
    assert len({who for who, _ in looks}) == 8


async def test_a_line_unfolds_into_its_fields(pane: Pane) -> None:
    await pane.push(
        ['{"level":"warn","order":{"id":7,"items":["cup"]},"note":"a \\"b\\""}', 'at=info path="/a b" status=201']
    )
    await pane.open()
    await pane.page.locator("log-pane .row", has_text="warn").click()
    details = pane.page.locator("log-pane .details")
    assert await details.locator("dt").all_inner_texts() == [
        *("time", "process", "dyno", "source", "stream"),
        *("level", "order", "note"),
        "cursor",
    ]
    assert (await details.locator("bdi").all_inner_texts())[5:8] == ["warn", '{"id":7,"items":["cup"]}', 'a "b"']
    await pane.page.get_by_role("button", name="Close").click()
    await pane.page.locator("log-pane .row", has_text="at=info").click()
    assert (await details.locator("bdi").all_inner_texts())[5:8] == ["info", "/a b", "201"]


async def test_a_line_is_copied_as_text_and_as_json(pane: Pane) -> None:
    await pane.push([{"message": "packed", "time": "2026-11-23T02:00:00.123456789Z"}])
    await pane.open()
    await pane.page.locator("log-pane .row").click()
    await pane.page.get_by_role("button", name="Copy text").click()
    assert await pane.copied("packed") == "2026-11-23T02:00:00.123456+00:00 app[web.1]: packed"
    await pane.page.get_by_role("button", name="Copy JSON").click()
    assert orjson.loads(await pane.copied('"message"'))["message"] == "packed"


async def test_a_stack_trace_is_kept_together(pane: Pane) -> None:
    await pane.push(["before", *TRACE[:2]], process="worker", stream="stderr")
    await pane.push(["GET /orders 200"])
    await pane.push([*TRACE[2:], "after"], process="worker", stream="stderr")
    await pane.open()
    await pane.page.locator("log-pane .row", has_text="box[order]").hover()
    together = pane.page.locator("log-pane .together .msg")
    await until(together.count, what="lines together")
    assert await together.all_inner_texts() == TRACE
    await pane.page.locator("log-pane .row", has_text="KeyError").click()
    await pane.page.get_by_role("button", name="Copy the trace").click()
    copied = await pane.copied("KeyError")
    assert [line.partition("]: ")[2] for line in copied.split("\n")] == TRACE


PYTHON = [
    "Traceback (most recent call last):",
    '  File "shop.py", line 7, in pack',
    "    box[order]",
    "    ~~~^^^^^^^",
    "shop.errors.OutOfStock: no box",
]
TRACES = {
    "python": PYTHON,
    "python without words": [*PYTHON[:4], "KeyboardInterrupt"],
    "python chained": [*PYTHON, "", "During handling of the above exception, another exception occurred:", "", *TRACE],
    "python in colours": [PYTHON[0], *(f"\x1b[31m{text}\x1b[0m" for text in PYTHON[1:])],
    "java": [
        'Exception in thread "main" java.lang.IllegalStateException: no box',
        "\tat shop.Pack.pack(Pack.java:17)",
        "\tat shop.Main.main(Main.java:3)",
        "Caused by: java.io.IOException: shelf is empty",
        "\tat shop.Shelf.take(Shelf.java:9)",
        "\t... 2 more",
    ],
    "node": [
        "TypeError: box is not a function",
        "    at pack (/app/shop.js:7:3)",
        "    at Object.<anonymous> (/app/shop.js:9:1) {",
        "  code: 'NO_BOX'",
        "}",
    ],
    "go": [
        "panic: no box [recovered]",
        "\tpanic: no box",
        "",
        "goroutine 1 [running]:",
        "main.(*Shop).pack(0xc000012345, {0x1, 0x2})",
        "\t/app/shop.go:7 +0x1d",
        "main.main()",
        "\t/app/main.go:5 +0x2a",
    ],
    "go of a request": [
        "2026/11/23 02:00:00 http: panic serving 10.0.0.1:4000: no box",
        "goroutine 7 [running]:",
        "net/http.(*conn).serve.func1()",
        "\t/go/src/net/http/server.go:1947 +0xbe",
        "created by net/http.(*Server).Serve in goroutine 1",
        "\t/go/src/net/http/server.go:3454 +0x485",
    ],
    "rust": [
        "thread 'main' panicked at src/main.rs:2:5:",
        "no box",
        "stack backtrace:",
        "   0: rust_begin_unwind",
        "             at /rustc/90b35a/library/std/src/panicking.rs:665:5",
        "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
    ],
    "ruby": ["shop.rb:3:in 'pack': no box (RuntimeError)", "\tfrom shop.rb:7:in '<main>'"],
}


async def test_a_trace_is_all_of_its_lines_and_no_other(pane: Pane) -> None:
    """Of each language, with a line before and behind, and next to another one."""
    blocks = [["GET /orders 200"], *(each for trace in TRACES.values() for each in (trace, ["packed"])), PYTHON, PYTHON]
    await pane.push([text for block in blocks for text in block], stream="stderr")
    await pane.open()
    await pane.until(f"pane.log.lines.length === {sum(map(len, blocks))}")
    found = await pane.js("pane.log.lines.map(line => pane.rows.trace(line).map(each => each.fields.message))")
    assert found == [block for block in blocks for _ in block]


async def test_times_and_wrapping_are_chosen_and_kept(pane: Pane) -> None:
    await pane.push([{"message": "x" * 1000, "time": "2026-11-23T02:00:00.123456789Z"}])
    await pane.open()
    time = pane.page.locator("log-pane time")
    await pane.page.get_by_label("How times are shown").select_option("utc")
    assert (await time.inner_text()).endswith("02:00:00.123Z")
    await pane.page.get_by_label("How times are shown").select_option("relative")
    assert (await time.inner_text()).endswith((" h", " min", " d", " s"))
    high = "pane.list.rows.firstElementChild?.getBoundingClientRect().height"
    await pane.until(f"{high} > 60")
    await pane.page.get_by_role("button", name="Wrap").click()
    await pane.until(f"{high} < 30")
    assert await pane.js("pane.scroller.scrollWidth > pane.scroller.clientWidth")
    await pane.open()
    await pane.until(f"{high} < 30")


async def test_times_are_of_the_readers_clock_and_say_another_day(browser: Browser, pane: Pane) -> None:
    context = await browser.new_context(timezone_id="America/New_York", locale="en-GB")
    there = Pane(await context.new_page(), pane.url, pane.app)
    await there.push([{"message": "old", "time": "2020-01-15T02:00:00.123456789Z"}, "new"])
    await there.open()
    old, new = there.page.locator("log-pane time").first, there.page.locator("log-pane time").last
    form = there.page.get_by_label("How times are shown")
    assert await old.inner_text() == "2020-01-14 21:00:00.123"
    assert await old.get_attribute("title") == "2020-01-14 21:00:00.123 -05:00"
    assert re.fullmatch(r"[\d:]{8}\.\d{3}", await new.inner_text())
    await form.select_option("utc")
    assert await old.inner_text() == "2020-01-15 02:00:00.123Z"
    assert re.fullmatch(r"[\d:]{8}\.\d{3}Z", await new.inner_text())
    await form.select_option("relative")
    assert re.fullmatch(r"\d{4,} d", await old.inner_text())
    assert there.complaints == []
    await context.close()


async def test_what_somebody_chooses_stays_where_it_is(pane: Pane) -> None:
    """Lines that come while text is being selected push nothing away."""
    await pane.push([f"line {number}" for number in range(100)])
    await pane.open()
    await pane.state("Live")
    await pane.rest()
    message = pane.page.locator("log-pane .row", has_text="line 90").locator(".msg")
    box = await message.bounding_box()
    assert box is not None
    await pane.page.mouse.move(box["x"] + 1, box["y"] + 8)
    await pane.page.mouse.down()
    await pane.page.mouse.move(box["x"] + 300, box["y"] + 8, steps=3)
    await pane.state("Paused")
    await pane.push([f"more {number}" for number in range(50)])
    await pane.until("pane.log.unseen === 50")
    await pane.rest()
    assert await message.bounding_box() == box
    await pane.page.mouse.up()
    assert (await pane.page.evaluate("String(getSelection())")).strip() == "line 90"
    assert await pane.page.locator("log-pane .details").count() == 0


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_download_has_every_line(pane: Pane, form: str) -> None:
    await pane.number(3000)
    await pane.open("?q=seq%3D1&only=1")
    expected = [line for line in (f"seq={number} GET" for number in range(3000)) if "seq=1" in line]
    async with pane.page.expect_download() as downloading:
        await pane.page.get_by_label("Download all lines").select_option(form)
    download = await downloading.value
    assert download.suggested_filename == f"{pane.app}.{'log' if form == 'text' else 'ndjson'}"
    lines = (await asyncio.to_thread(Path(await download.path()).read_text)).splitlines()
    found = [orjson.loads(line)["message"] if form == "json" else line.partition("]: ")[2] for line in lines]
    assert [line.removeprefix("writer=w ").removesuffix(" /orders") for line in found] == expected


async def test_a_download_says_how_far_it_is_and_can_be_cancelled(pane: Pane) -> None:
    """Of all lines, those before the range of the plot too."""
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    await pane.push([{"message": f"old {number}", "time": old} for number in range(10_000)])
    await pane.number(10_000)
    await pane.open()
    downloads: list[Download] = []
    pane.page.on("download", lambda download: downloads.append(download))  # noqa: PLW0108 - Playwright marks what it is given
    network = await pane.page.context.new_cdp_session(pane.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": 100_000, "uploadThroughput": -1}
    await network.send("Network.emulateNetworkConditions", slow)
    await pane.page.get_by_label("Download all lines").select_option("text")
    saving = pane.page.locator("log-pane .saving")
    far = await until(lambda: _far(saving), what="the first lines")
    await until(lambda: _further(saving, far), what="more lines")
    await saving.get_by_role("button", name="Cancel").click()
    await saving.wait_for(state="hidden")
    await network.send("Network.emulateNetworkConditions", {**slow, "downloadThroughput": -1})
    async with pane.page.expect_download() as downloading:
        await pane.page.get_by_label("Download all lines").select_option("text")
    text = await asyncio.to_thread(Path(await (await downloading.value).path()).read_text)
    assert text.count("\n") == 20_000
    assert len(downloads) == 1, "what was cancelled came all the same"
    await saving.wait_for(state="hidden")


async def test_a_download_that_is_cut_goes_on_with_the_next_line(pane: Pane) -> None:
    """Three times it ends in the middle of a line, and once before anything came."""
    for first in range(0, 5000, 500):
        await pane.number(500, first=first)
    await pane.open()
    cuts = [150_000, 1_000, 0, 200_000]

    async def cut(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=(await answer.body())[: cuts.pop()])

    await pane.page.route("**/v1/apps/*/logs?*after=*", cut, times=len(cuts))
    async with pane.page.expect_download() as downloading:
        await pane.page.get_by_label("Download all lines").select_option("text")
    text = await asyncio.to_thread(Path(await (await downloading.value).path()).read_text)
    assert cuts == []
    tally = Tally()
    for line in text.splitlines():
        tally.feed(line)
    tally.check({"w": 5000})


async def test_a_download_that_is_refused_says_why(pane: Pane) -> None:
    await pane.number(10)
    await pane.open()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=403, json={"detail": "The token is for other apps."})

    await pane.page.route("**/v1/apps/*/logs?*after=*", refuse)
    await pane.page.get_by_label("Download all lines").select_option("json")
    saving = pane.page.locator("log-pane .saving", has_text="The download failed. You may not read this log")
    await saving.wait_for()
    assert "The token is for other apps." in await saving.inner_text()


async def _far(saving: Locator) -> int:
    """How many lines a download has by what it says; 0 where it has none."""
    found = re.match(r"([\d,]+) of 20,000 lines", await saving.inner_text())
    return int(found[1].replace(",", "")) if found else 0


async def _further(saving: Locator, far: int) -> bool:
    return far < await _far(saving) < 20_000


async def test_what_the_platform_says_stands_out(tmp_path: Path, context: BrowserContext) -> None:
    async with Service(tmp_path, procfile="web: echo up; sleep 100000\nworker: echo boom; exit 3\n") as service:
        await service.start()
        pane = Pane(await context.new_page(), service.url, "demo")
        await pane.open()
        await pane.page.locator("log-pane .platform.fault", has_text="status 3").first.wait_for()
        await pane.page.locator("log-pane .platform.rollout", has_text="Starting process").first.wait_for()
        await pane.page.locator("log-pane .platform.fault", has_text="to crashed").first.wait_for()
        await pane.page.locator("log-pane .platform.rollout", has_text="from crashed to starting").first.wait_for()
        await pane.page.locator("log-pane .chip", has_text="platform").click()
        await until(lambda: _all_platform(pane), what="the platform's lines only")
        assert pane.complaints == []


async def _all_platform(pane: Pane) -> bool:
    return await pane.js("pane.log.lines.length > 0 && pane.log.lines.every(line => line.fields.source === 'platform')")


TOLD = {
    "Process exited with status 137: it took more memory than it may": "fault",
    "State changed from up to crashed: OOMKilled": "fault",
    "State changed from crashed to up": "rollout",
    "State changed from up to starting: the readiness probe fails": "fault",
    "Image shop:9 can't be had: ErrImagePull": "fault",
    "Process can't be started: CreateContainerConfigError": "fault",
    "Starting process of image shop:9": "rollout",
    "Rollout of revision 9 begins: shop:9": "rollout",
    "Rollout of revision 9 is stuck: 1 of 3 dynos are up": "fault",
    "Scaled from 3 to 5 dynos": "rollout",
    "Process exited with status 0": "",
    "Process exited with status 143 (SIGTERM)": "",
    "Job migrate has failed: BackoffLimitExceeded": "fault",
    "Stopping all processes with SIGTERM": "",
    "Drain https://****@a.example/****: the receiver answers 503 Busy, for 9 min now. Lines wait, and are sent once it "
    "takes them": "fault",
    "Drain https://****@a.example/****: the receiver answers 400 Bad Request. 7 lines were dropped": "fault",
    "Drain https://****@a.example/****: the receiver takes lines again. 2 more lines were dropped before": "",
}
"""What the platform says on Kubernetes and of drains, and how it stands out."""


async def test_rollouts_and_crashes_look_different(pane: Pane) -> None:
    """Lines as a cluster writes them, which nobody but the platform may write here."""
    line = {"time": "2026-11-23T02:00:00.000000000Z", "source": "platform", "process": "web", "dyno": "web.1"}
    lines = [{**line, "stream": "stdout", "message": message, "cursor": f"1.1.1.{n}"} for n, message in enumerate(TOLD)]
    data = "".join(f"data: {orjson.dumps(each).decode()}\n" for each in lines)

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=f"id: 1.1.1.{len(TOLD) - 1}\n{data}\n")

    await pane.page.route("**/v1/apps/*/logs?*", answer, times=1)
    await pane.open()
    rows = pane.page.locator("log-pane .row.platform")
    assert await rows.count() == len(TOLD)
    for number, kind in enumerate(TOLD.values()):
        shown = (await rows.nth(number).get_attribute("class") or "").split()
        assert shown == ["row", "platform", *([kind] if kind else [])], await rows.nth(number).inner_text()
