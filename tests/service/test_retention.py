"""Retention goes on, whatever the store says."""

import asyncio

import pytest

from logsvc.errors import StoreError
from logsvc.service import retention
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
