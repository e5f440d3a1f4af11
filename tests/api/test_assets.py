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
    pane = {name: len(file.packed) for name, file in files.items() if not name.startswith(("page.", "icon."))}
    assert 10_000 < sum(pane.values()) < MOST, pane


async def test_the_entry_is_asked_for_again_and_the_rest_kept(served: Served) -> None:
    async with served.client.get(f"{served.url}/pane/log-pane.js") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        entry = await response.text()
        found = re.search(r'^export \* from "\./([0-9a-f]{16})/element\.js";$', entry, re.MULTILINE)
        etag = response.headers["ETag"]
    assert found is not None
    imported = re.findall(rf'^import "\./{found[1]}/(.+)";$', entry, re.MULTILINE)
    assert set(imported) == {path.name for path in FOLDER.glob("*.js")} - {"page.js"}
    async with served.client.get(
        f"{served.url}/pane/log-pane.js", headers={"If-None-Match": f'"x", W/{etag}'}
    ) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag
    async with served.client.get(f"{served.url}/pane/{found[1]}/element.js") as response:
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Content-Encoding"] == "gzip"
        served_as, written_as = await response.text(), (FOLDER / "element.js").read_text()
        assert set(served_as.splitlines()) <= set(written_as.splitlines())
        assert "class LogPane extends HTMLElement" in served_as
        assert not re.search(r"^\s*(//|\*)", served_as, re.MULTILINE)
    async with served.client.get(f"{served.url}/pane/{'0' * 16}/element.js") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


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
    addresses = re.findall(r'(?:href|src)="(/pane/[^"]+)"', page)
    assert len(addresses) > 20
    assert not re.search(r"<script[^>]*>[^<]", page)
    for address in addresses:
        async with served.client.get(f"{served.url}{address}") as response:
            assert response.status == 200, address


async def test_a_change_of_any_file_is_another_version(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Assets(tmp_path).version == Assets().version
    (tmp_path / "ansi.js").write_bytes(b"//")
    assert Assets(tmp_path).version != Assets().version


def test_files_are_compressed_as_they_are() -> None:
    for asset in Assets().files.values():
        assert gzip.decompress(asset.packed) == asset.body
