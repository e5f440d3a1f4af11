"""The pane as a person uses it, in a page of the real service, and what tests ask of its innards."""

import io
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import aiohttp
import orjson
from playwright.async_api import Page

from tests.support import Tally, numbered, until
from tests.support.wait import DEADLINE

_WITHOUT: Final = (
    # Pages of the address bar, which nobody sees here: half of the work of a new window.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
    # What Playwright leaves out; Chromium takes the last such list only.
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
)
CHROMIUM: Final[dict[str, Any]] = {
    "executable_path": "/usr/bin/chromium",
    # As root Chromium refuses to start with its sandbox; shared memory is small in containers.
    "args": [
        "--disable-dev-shm-usage",
        f"--disable-features={','.join(_WITHOUT)}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ],
}


class Pane:
    """A page with the pane of one app."""

    def __init__(self, page: Page, url: str, app: str) -> None:
        self.page, self.url, self.app = page, url, app
        self.token = ""
        """Of whoever pushes, where the service asks."""
        self.complaints: list[str] = []
        """What went wrong in the page: errors, and what its policy forbade. A refused request is no error of it."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._heard(message.type, message.text))

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    async def open(self, query: str = "", *, wait: bool = True) -> None:
        """Go there; `wait` until there is a line."""
        await self.page.goto(f"{self.url}/apps/{self.app}{query}")
        if wait:
            await self.page.wait_for_selector("log-pane .row")

    async def push(self, lines: Iterable[bytes | str | dict[str, Any]], **query: str) -> None:
        """Post lines: text, or JSON lines."""
        made = list(lines)
        objects = [line if isinstance(line, dict) else {"message": _text(line)} for line in made]
        async with aiohttp.ClientSession() as client:
            posting = client.post(
                f"{self.url}/v1/apps/{self.app}/logs",
                params={"process": "web", **query},
                data=io.BytesIO(b"".join(orjson.dumps(each) + b"\n" for each in objects)),
                headers={"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {self.token}"},
            )
            async with posting as response:
                assert response.status == 200, await response.text()

    async def number(self, count: int, first: int = 0, **query: str) -> None:
        """Post sequence-numbered lines."""
        await self.push([numbered("w", seq, b"GET /orders") for seq in range(first, first + count)], **query)

    async def js(self, expression: str) -> Any:
        """The value of an expression about `pane`."""
        return await self.page.evaluate(
            f"(() => {{ const pane = document.querySelector('log-pane'); return {expression} }})()"
        )

    async def rest(self) -> None:
        """Wait until nothing scrolls any more: what the wheel or a key began goes on by itself for some frames."""
        await self.js("""new Promise((done) => {
            let same = 0, before = NaN;
            const look = () => {
                same = pane.scroller.scrollTop === before ? same + 1 : 0;
                before = pane.scroller.scrollTop;
                if (same > 5) done(true);
                else requestAnimationFrame(look);
            };
            look();
        })""")

    async def until(self, expression: str, deadline: float = DEADLINE) -> Any:
        """Wait until an expression about `pane` is true."""
        return await until(lambda: self.js(expression), deadline, expression)

    async def messages(self) -> list[str]:
        """Of all lines held, in the document or not."""
        return await self.js("pane.log.lines.map(line => line.fields.message)")

    async def shown(self) -> list[str]:
        """Messages of the rows in the document."""
        return await self.page.locator("log-pane .row .msg").all_inner_texts()

    async def state(self, word: str) -> None:
        """Wait until the pane says in which state it is; it may be 15 s until it tries again."""
        await self.page.locator("log-pane .pill", has_text=word).wait_for(timeout=90_000)

    async def tally(self) -> Tally:
        """The verdict on the lines held."""
        tally = Tally(from_start=False)
        for message in await self.messages():
            tally.feed(message)
        return tally

    async def give(self, token: str) -> None:
        """Set the token that it reads with, as a dashboard does."""
        await self.page.evaluate("token => { document.querySelector('log-pane').token = token }", token)

    async def copied(self, part: str) -> str:
        """What the clipboard holds, once `part` is in it."""

        async def text() -> str:
            held = str(await self.page.evaluate("navigator.clipboard.readText()"))
            return held if part in held else ""

        return await until(text, what=f"{part!r} in the clipboard")

    async def wheel(self, pixels: int) -> None:
        box = await self.page.locator("log-pane .scroller").bounding_box()
        assert box is not None
        await self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await self.page.mouse.wheel(0, pixels)

    async def wheel_until(self, condition: Callable[[], Awaitable[Any]], pixels: int) -> None:
        """Turn the wheel until something is so."""

        async def turned() -> Any:
            if await condition():
                return True
            await self.wheel(pixels)
            return False

        await until(turned, 60, "the wheel gets there")


def _text(line: bytes | str) -> str:
    return line.decode() if isinstance(line, bytes) else line
