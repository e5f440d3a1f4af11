"""How long lines are kept is the plan's, whatever they came by; forgetting goes on, whatever the store says."""

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from logsvc.errors import StoreError
from logsvc.service import retention
from tests.support.service import Service
from tests.support.tokens import AUDIENCE, Issuer
from tests.support.wait import until


class Sick:
    """A store that can't drop anything."""

    tries = 0

    async def retain(self, now: int) -> None:
        assert now > 0
        self.tries += 1
        raise StoreError("no space left")


async def test_retention_that_fails_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pause] = [name for name in vars(retention) if name.endswith("SECONDS")]
    monkeypatch.setattr(retention, pause, 0.0)
    sick = Sick()
    retaining = asyncio.create_task(retention.retain(sick))
    await until(lambda: sick.tries > 2)
    retaining.cancel()
    assert "no space left" in caplog.text


@pytest.mark.parametrize(("tokens", "pushed"), [(False, b"1"), (True, b"2")], ids=["without tokens", "with tokens"])
async def test_the_plan_says_how_long_lines_are_kept_whatever_they_came_by(
    tmp_path: Path, tokens: bool, pushed: bytes
) -> None:
    """The journal has each chunk's retention class in its key. A Procfile's tenant has the default plan."""
    issuer = Issuer()
    (tmp_path / "jwks").write_bytes(issuer.jwks())
    auth = {"auth.jwks": tmp_path / "jwks", "auth.audience": AUDIENCE} if tokens else {}
    settings = {"limits.retention": '{"standard": 1, "pro": 2}', **auth}
    async with Service(tmp_path, procfile="web: echo hello; sleep 1000\n", settings=settings) as service:
        await service.start()
        headers = {"Authorization": f"Bearer {issuer.token(plan='pro')}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.post(f"{service.logs}?process=pushed", data="one\n") as response,
        ):
            assert response.status == 200
        classes = await until(lambda: retention_classes(service.data / "bus", {b"web", b"pushed"}))
        assert classes == {b"web": b"1", b"pushed": pushed}


def retention_classes(journal: Path, processes: set[bytes]) -> dict[bytes, bytes] | None:
    """By process, once all of them are there."""
    data = b"".join(path.read_bytes() for path in journal.rglob("*") if path.is_file())
    found = re.findall(rb'"process":"(web|pushed)","retention":(\d)', data)
    return dict(found) if processes == {process for process, _ in found} else None
