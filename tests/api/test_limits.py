"""Limits over HTTP: what the plan in a token allows, and what is said to whoever wants more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from logsvc.access.limits import Limits
from logsvc.api.delivery import Delivery
from logsvc.config import Limits as Settings
from logsvc.store.protocol import Store
from tests.api.guarded import Guarded, guarded
from tests.api.served import problem_of
from tests.support.wait import until


async def test_over_a_limit_of_the_plan_it_is_429(store: Store, tmp_path: Path) -> None:
    async with guarded(store, tmp_path) as site:
        await site.served.rig.write(3)
        await site.served.rig.store_upto(1)
        access = site.served.context.access
        access.limits = Limits(Settings(read_bytes={"standard": 1}))
        client, logs = site.served.client, site.served.logs
        async with site.get("?num=1") as response:
            assert response.status == 429
            assert "narrow it" in (await problem_of(response))["detail"]
        access.limits = Limits(Settings(read_rows={"standard": 1}), lambda: 0.0)
        details = [await refusal(site.get("?num=1")) for _ in range(61)]
        assert details[0] is None
        assert "1 rows a second" in (details[-1] or "")
        access.limits = Limits(Settings(tails={"standard": 1}, push_bytes={"standard": 100}), lambda: 0.0)
        async with site.get("?tail=1&num=0") as first:
            assert first.status == 200
            async with site.get("?tail=1&num=0") as response:
                assert response.status == 429
                assert int(response.headers["Retry-After"]) >= 1
                assert "1 tails" in (await problem_of(response))["detail"]
        await until(lambda: site.served.context.tails == 0)
        async with site.get("?tail=1&num=0") as response:
            assert response.status == 200
        for status in (200, 429):
            async with client.post(logs, data="x" * 1040 + "\n", headers=site.header()) as response:
                assert response.status == status


LIMITS = Settings(
    tails={"free": 1, "starter": 2, "standard": 3, "pro": 4},
    answers={"free": 5, "starter": 6, "standard": 7, "pro": 8},
    posts={"free": 2, "starter": 3, "standard": 4, "pro": 5},
)


@pytest.mark.parametrize("plan", ["free", "starter", "standard", "pro", None])
async def test_what_may_be_had_at_once_is_what_the_plan_in_the_token_says(
    site: Guarded, plan: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.served.context.access.limits = Limits(LIMITS)
    client, logs, named = site.served.client, site.served.logs, plan or "standard"
    headers = {**site.header(plan=plan), "Content-Type": "text/plain"}
    going = asyncio.Event()

    async def slowly(_: Delivery) -> None:
        await going.wait()

    async def body() -> AsyncIterator[bytes]:
        yield b"line\n"
        await going.wait()

    async def read() -> None:
        async with client.get(logs, headers=headers):
            pass

    async def post() -> None:
        async with client.post(logs, data=body(), headers=headers) as response:
            assert response.status == 200

    async def refused(what: str, most: int, ask: Callable[[], Any]) -> None:
        before = await site.counted("over_limit", what)

        async def over() -> bool:
            return f"allows {most} {what} at once" in (await refusal(ask()) or "")

        await until(over)
        assert await site.counted("over_limit", what) > before

    async with AsyncExitStack() as stack:
        for _ in range(LIMITS.tails[named]):
            await stack.enter_async_context(client.get(f"{logs}?tail=1&num=0", headers=headers))
        await refused("tails", LIMITS.tails[named], lambda: client.get(f"{logs}?tail=1&num=0", headers=headers))
    monkeypatch.setattr(Delivery, "open", slowly)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(LIMITS.answers[named]):
            tasks.create_task(read())
        await until(lambda: site.served.context.access.limits._answers["local"] == LIMITS.answers[named])
        await refused("answers", LIMITS.answers[named], lambda: client.get(logs, headers=headers))
        for _ in range(LIMITS.posts[named]):
            tasks.create_task(post())
        await until(lambda: site.served.context.access.limits._posts["local"] == LIMITS.posts[named])
        await refused("posts", LIMITS.posts[named], lambda: client.post(logs, data=b"x\n", headers=headers))
        going.set()


async def test_an_operator_uses_up_nothing_of_the_tenant_that_it_has_chosen(site: Guarded) -> None:
    site.served.context.access.limits = Limits(Settings(tails={"standard": 1}))
    client, logs = site.served.client, f"{site.served.logs}?tail=1&num=0"
    operator = {**site.header(tenant="ops", scope="logs:read logs:operate"), "Logsvc-Tenant": "local"}
    sessions = f"{site.served.url}/apps/{site.served.name}/log-sessions"
    async with client.post(sessions, json={"tail": True, "lines": 0}, headers=operator) as response:
        session = (await response.json())["logplex_url"]
    async with client.get(session) as theirs, client.get(logs, headers=site.header()) as own:
        assert (theirs.status, own.status) == (200, 200)
        for headers in (operator, site.header()):
            assert "allows 1 tails" in (await refusal(client.get(logs, headers=headers)) or "")


async def refusal(asking: Any) -> str | None:
    """What a request is refused with for its tenant's limits."""
    async with asking as response:
        if response.status == 200:
            return None
        assert response.status == 429
        assert int(response.headers["Retry-After"]) >= 1
        return str((await problem_of(response))["detail"])
