"""The page and the pane as files: what browsers may keep, and what they may not do with them."""

import gzip
import re
from pathlib import Path

import pytest

from logsvc.api.assets import FOLDER, Assets
from tests.api.served import Served

MOST = 40_000
"""Bytes that the pane may be, compressed."""


async def test_the_pane_is_small() -> None:
    files = Assets().files
    assert 10_000 < len(files["log-pane.js"].packed) < MOST


async def test_the_module_that_is_embedded_is_asked_for_again(served: Served) -> None:
    address = f"{served.url}/pane/log-pane.js"
    async with served.client.get(address) as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Content-Encoding"] == "gzip"
        text = await response.text()
        etag = response.headers["ETag"]
    assert not re.search(r"^\s*(//|/\*\*|import\b)", text, re.MULTILINE)
    async with served.client.get(address, headers={"If-None-Match": f'"x", W/{etag}'}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag


async def test_every_module_is_in_the_page(served: Served) -> None:
    written = "".join(path.read_text() for path in FOLDER.glob("*.js"))
    names = re.findall(r"^export (?:class|const|(?:async )?function\*?) (\w+)", written, re.MULTILINE)
    assert len(names) > 40
    async with served.client.get(f"{served.url}/pane/page.js") as response:
        text = await response.text()
    assert [
        name for name in names if not re.search(rf"^(class|const|(async )?function\*?) {name}\b", text, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("path", ["", "apps/demo"])
async def test_the_page_lets_nothing_in(served: Served, path: str) -> None:
    async with served.client.get(f"{served.url}/{path}", headers={"Accept": "text/html"}) as response:
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        page = await response.text()
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in str(policy)
    assert not re.search(r"<script[^>]*>[^<]", page)


async def test_what_the_page_needs_is_kept_for_good(served: Served) -> None:
    async with served.client.get(served.url) as response:
        assert response.headers["Cache-Control"] == "no-cache"
        addresses = re.findall(r'(?:href|src)="(/pane/[^"]+)"', await response.text())
    assert [re.sub(r"[0-9a-f]{16}$", "hash", each) for each in addresses] == [
        *("/pane/begin.js?v=hash", "/pane/icon.svg?v=hash", "/pane/page.css?v=hash", "/pane/page.js?v=hash")
    ]
    for address in addresses:
        async with served.client.get(f"{served.url}{address}") as response:
            assert response.status == 200, address
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        other = re.sub(r"=.*", "=" + "0" * 16, address)
        async with served.client.get(f"{served.url}{other}") as response:
            assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")
    async with served.client.get(f"{served.url}/pane/element.js") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_another_content_has_another_address(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Assets(tmp_path).page == Assets().page
    with (tmp_path / "ansi.js").open("a") as module:
        module.write("globalThis.more = 1;\n")
    assert Assets(tmp_path).page.hash != Assets().page.hash


def test_files_are_compressed_as_they_are() -> None:
    for asset in Assets().files.values():
        assert gzip.decompress(asset.packed) == asset.body
