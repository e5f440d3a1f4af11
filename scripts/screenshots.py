"""Take the pictures of the log pane and of drains in docs/, small where there is `pngquant`.

python -m scripts.screenshots
"""

import asyncio
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from playwright.async_api import ViewportSize, async_playwright

from tests.browser.panes import CHROMIUM, Pane
from tests.support.receiver import Receiver
from tests.support.service import Service

DOCS: Final = Path(__file__).parents[1] / "docs"
SIZE: Final[ViewportSize] = {"width": 1100, "height": 640}
PHONE: Final[ViewportSize] = {"width": 360, "height": 640}
CRASHES: Final = "web: exec sleep 1000\nworker: echo out of boxes; sleep 2; exit 3\n"
"""Processes, for what the platform says of them."""
SETTINGS: Final = {"drains.http": True, "drains.allow": '["127.0.0.1/32"]', "drains.pause_most": 2}
TRACE: Final = (
    "Traceback (most recent call last):",
    '  File "shop/pack.py", line 71, in pack',
    "    box = BOXES[order.size]",
    "KeyError: 'XXL'",
)


def an_hour(rng: random.Random, now: datetime) -> Iterator[dict[str, Any]]:
    """JSON lines of a shop, as `POST /v1/apps/{app}/logs` takes them: a worker that fails for a while."""
    for step in range(900, 0, -1):
        base = {"time": (now - timedelta(seconds=step * 4)).isoformat()}
        worker = {**base, "process": "worker", "dyno": "worker.1"}
        kind = (
            "trace" if step == 4 or (300 < step < 380 and rng.random() < 0.5) else rng.choice(["web", "web", "worker"])
        )
        if kind == "trace":
            yield from ({**worker, "stream": "stderr", "message": text} for text in TRACE)
        elif kind == "worker":
            order = {"level": rng.choice(["info", "info", "warn"]), "event": "packed", "order": rng.randrange(9000)}
            yield {**worker, "message": orjson.dumps(order).decode()}
        elif step % 15 == 0:
            text = "\x1b[36mtick\x1b[0m, the next one in \x1b[1;32m60 s\x1b[0m"
            yield {**base, "process": "clock", "dyno": "clock.1", "message": text}
        else:
            text = (
                f'at=info method=GET path="/orders/{rng.randrange(9000)}" status=200 service={rng.randrange(3, 90)}ms'
            )
            yield {**base, "process": "web", "dyno": f"web.{rng.randrange(1, 3)}", "message": text}


async def take(pane: Pane) -> None:
    """Live in light, a line unfolded in dark, and live on a phone."""
    await pane.push(an_hour(random.Random(1), datetime.now(UTC)))
    for scheme in ("light", "dark"):
        await pane.page.emulate_media(color_scheme=scheme)
        await pane.open("?q=order" if scheme == "dark" else "")
        await pane.state("Live")
        await pane.page.locator("log-pane .row", has_text="to crashed").first.wait_for()
        await pane.page.locator("log-pane .chip", has_text="clock").first.wait_for()
        if scheme == "dark":
            await pane.page.locator("log-pane .row", has_text='"packed"').last.click()
            await pane.page.locator("log-pane .details").wait_for()
        await pane.page.screenshot(path=DOCS / f"pane-{scheme}.png")
    await pane.page.emulate_media(color_scheme="light")
    await pane.page.set_viewport_size(PHONE)
    await pane.open()
    await pane.state("Live")
    await pane.page.locator("log-pane .chip", has_text="clock").first.wait_for()
    await pane.page.screenshot(path=DOCS / "pane-narrow.png")
    await pane.page.set_viewport_size(SIZE)


async def take_drains(pane: Pane, receiver: Receiver) -> None:
    """One that delivers, whose filter is being changed, and one that nobody answers."""
    drains = pane.page.locator(".drains li")
    await pane.page.emulate_media(color_scheme="light")
    await pane.open()
    await pane.page.get_by_role("button", name="Drains").click()
    for url in (f"{receiver.url}/logs", "http://127.0.0.1:9/archive"):
        await pane.page.get_by_label("URL of a drain").fill(url)
        await pane.page.get_by_label("URL of a drain").press("Enter")
        await drains.filter(has_text=url).wait_for()
    await pane.push(["packed order 7", "packed order 8"], process="worker")
    await drains.filter(has_text="retrying").wait_for()
    await drains.first.filter(has_text="delivering").wait_for()
    await drains.first.get_by_role("button", name="Filter").click()
    for kind, value in (("process is", "worker"), ("text has not", "healthz")):
        await pane.page.get_by_role("button", name="Add a condition").click()
        await pane.page.get_by_label("Condition", exact=True).last.select_option(kind)
        await pane.page.get_by_label("Value", exact=True).last.fill(value)
    await pane.page.screenshot(path=DOCS / "drains.png")


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        service = await stack.enter_async_context(Service(folder, procfile=CRASHES, settings=SETTINGS))
        receiver = await stack.enter_async_context(Receiver().listening())
        playwright = await stack.enter_async_context(async_playwright())
        await service.start()
        browser = await playwright.chromium.launch(**CHROMIUM)
        page = await browser.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC")
        pane = Pane(page, service.url, "demo")
        await take(pane)
        await take_drains(pane, receiver)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
    if pngquant := shutil.which("pngquant"):
        pictures = [DOCS / name for name in ("pane-light.png", "pane-dark.png", "pane-narrow.png", "drains.png")]
        subprocess.run([pngquant, "--force", "--ext", ".png", "--nofs", "32", *pictures], check=True)
