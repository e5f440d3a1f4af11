"""The log pane and the page around it: what `static/` is made into once, and how browsers may keep it.

    GET /, /apps/{app}         the page
    GET /pane/log-pane.js      the module that a dashboard embeds, with its style sheet in it
    GET /pane/{file}?v=hash    what the page needs: kept by browsers for good, as another content has another address

Whatever has no hash in its address is asked for again at each visit, and answered with 304 where it is the same.
Nothing here reads lines; the page asks the API for them, like any client.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

from logsvc.api.bundle import bundle
from logsvc.api.guard import Handler

FOLDER: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content Security Policy of the page: nothing inline, nothing from elsewhere, and no text that becomes markup."""

_KEPT: Final = "public, max-age=31536000, immutable"
_ASKED: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file in memory, and compressed."""

    body: bytes
    packed: bytes
    content_type: str
    hash: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> "Asset":
        return cls(body, gzip.compress(body, 9, mtime=0), _TYPES[suffix], sha256(body).hexdigest()[:16])

    def answer(self, request: web.Request, cached: str, headers: Mapping[str, str] | None = None) -> web.Response:
        """The file; 304 for whoever has it (RFC 9110 §13.1.2)."""
        etag = f'"{self.hash}"'
        # Whoever embeds the pane loads it from another origin, as modules must be shared; there are no secrets in it.
        common = {
            "Cache-Control": cached,
            "ETag": etag,
            "Vary": "Accept-Encoding",
            "Access-Control-Allow-Origin": "*",
        }
        response = web.Response(headers={**common, "X-Content-Type-Options": "nosniff", **(headers or {})})
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
        if etag in known or "*" in known:
            response.set_status(304)
            return response
        response.headers["Content-Type"] = self.content_type
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.headers["Content-Encoding"] = "gzip"
            response.body = self.packed
        else:
            response.body = self.body
        return response


class Assets:
    """The files that browsers get, made once of those in `folder`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.suffix in _TYPES}
        made = {
            "log-pane.js": bundle(found, "element.js"),
            "begin.js": bundle(found, "begin.js"),
            "page.js": bundle(found, "page.js"),
            "page.css": found["page.css"],
            "icon.svg": found["icon.svg"],
        }
        self.files = {name: Asset.of(text.encode(), Path(name).suffix) for name, text in made.items()}
        self.page = Asset.of(_ADDRESS.sub(self._with_hash, found["index.html"]).encode(), ".html")

    def _with_hash(self, address: re.Match[str]) -> str:
        return f'"/pane/{address[1]}?v={self.files[address[1]].hash}"'

    def add_to(self, router: web.UrlDispatcher, otherwise: Handler) -> None:
        """Answer for the page and the pane. None of it needs a token.

        `otherwise` answers those who ask for `/apps/{app}` and not for a page: clients of Heroku's API.
        """

        async def get_app(request: web.Request) -> web.StreamResponse:
            browses = "text/html" in request.headers.get("Accept", "")
            return await (self.get_page if browses else otherwise)(request)

        router.add_get("/", self.get_page)
        router.add_get("/apps/{app}", get_app)
        router.add_get("/pane/{file}", self.get_file)

    async def get_page(self, request: web.Request) -> web.Response:
        headers = {
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept, Accept-Encoding",
        }
        return self.page.answer(request, _ASKED, headers)

    async def get_file(self, request: web.Request) -> web.Response:
        found = self.files.get(request.match_info["file"])
        if found is None:
            raise web.HTTPNotFound
        # What is kept for good must be what its address says, also while servers of two versions answer.
        return found.answer(request, _KEPT if request.query.get("v") == found.hash else _ASKED)


_ADDRESS: Final = re.compile(r'"/pane/([^"]+)"')
