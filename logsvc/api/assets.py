"""The log pane and the page around it: what lies in `static/`, sent as it is, but for addresses and comments.

    GET /, /apps/{app}              the page
    GET /pane/log-pane.js           the module that a dashboard embeds: asked for again each time, and a list of files
    GET /pane/<version>/<file>      what it is made of: kept by browsers for good: another version has other addresses

The version is a hash of all files. Nothing here reads lines; the page asks the API for them, like any client.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

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
    etag: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> "Asset":
        return cls(body, gzip.compress(body, 9, mtime=0), _TYPES[suffix], f'"{_hash(body)}"')

    def answer(self, request: web.Request, cached: str, headers: Mapping[str, str] | None = None) -> web.Response:
        """The file; 304 for whoever has it (RFC 9110 §13.1.2)."""
        # Whoever embeds the pane loads it from another origin, as modules must be shared; there are no secrets in it.
        common = {
            "Cache-Control": cached,
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
            "Access-Control-Allow-Origin": "*",
        }
        response = web.Response(headers={**common, "X-Content-Type-Options": "nosniff", **(headers or {})})
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
        if self.etag in known or "*" in known:
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
    """All files of `static/`, read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = {path.name: _lean(path) for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
        page = files.pop("index.html")
        self.version = _hash(b"\0".join([page, *(name.encode() + b"\0" + body for name, body in files.items())]))
        self.files = {name: Asset.of(body, Path(name).suffix) for name, body in files.items()}
        self.entry = Asset.of(self._entry(), ".js")
        self.page = Asset.of(self._with_addresses(page), ".html")

    @property
    def _modules(self) -> list[str]:
        return [name for name in self.files if name.endswith(".js")]

    def _entry(self) -> bytes:
        """All modules of the pane named, so that none waits for another."""
        imports = "".join(f'import "./{self.version}/{name}";\n' for name in self._modules if name != "page.js")
        return f'{imports}export * from "./{self.version}/element.js";\n'.encode()

    def _with_addresses(self, page: bytes) -> bytes:
        """The page with the addresses of this version, and all modules named, so that none waits for another."""
        preloads = "".join(f'    <link rel="modulepreload" href="/pane/{name}">\n' for name in self._modules)
        marked = page.replace(b"  </head>", preloads.encode() + b"  </head>")
        return marked.replace(b'"/pane/', f'"/pane/{self.version}/'.encode())

    def add_to(self, router: web.UrlDispatcher, otherwise: Handler) -> None:
        """Answer for the page and the pane. None of it needs a token.

        `otherwise` answers those who ask for `/apps/{app}` and not for a page: clients of Heroku's API.
        """

        async def get_app(request: web.Request) -> web.StreamResponse:
            browses = "text/html" in request.headers.get("Accept", "")
            return await (self.get_page if browses else otherwise)(request)

        router.add_get("/", self.get_page)
        router.add_get("/apps/{app}", get_app)
        router.add_get("/pane/log-pane.js", self.get_entry)
        router.add_get("/pane/{version}/{file}", self.get_file)

    async def get_page(self, request: web.Request) -> web.Response:
        headers = {
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept, Accept-Encoding",
        }
        return self.page.answer(request, _ASKED, headers)

    async def get_entry(self, request: web.Request) -> web.Response:
        return self.entry.answer(request, _ASKED)

    async def get_file(self, request: web.Request) -> web.Response:
        """Of this version only: what a browser keeps for good must be what its address says."""
        found = self.files.get(request.match_info["file"])
        if found is None or request.match_info["version"] != self.version:
            raise web.HTTPNotFound
        return found.answer(request, _KEPT)


_COMMENTS: Final = re.compile(rb"^[ \t]*(?:/\*\*(?:(?!\*/).)*\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
"""Lines of a module that are comment as a whole."""


def _lean(path: Path) -> bytes:
    """What a file is sent as. A third of the modules is types, which only the checker reads."""
    body = path.read_bytes()
    return _COMMENTS.sub(b"", body) if path.suffix == ".js" else body


def _hash(body: bytes) -> str:
    return sha256(body).hexdigest()[:16]
