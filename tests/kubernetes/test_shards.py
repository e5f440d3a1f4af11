"""The logs of a cluster shared out between processes, of which some are killed and stopped."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.kubernetes.collecting import Collecting, writer
from tests.kubernetes.test_exactness import LABELS, complete, goes_on
from tests.support import until
from tests.support.roles import Role

NAMES = [f"steady-{number}" for number in range(4)]
SHARDS = 2


def holders(collecting: Collecting) -> dict[str, str]:
    """Who has which share."""
    items = collecting.kubernetes.get("leases", "-n", collecting.namespace)["items"]
    return {item["metadata"]["name"]: item["spec"].get("holderIdentity", "") for item in items}


@asynccontextmanager
async def shared(collecting: Collecting) -> AsyncIterator[list[Role]]:
    """Two processes, and the writers that they follow: the first process has all shares."""
    collecting.begin()
    async with AsyncExitStack() as stack:
        roles = []
        for name in ("first", "second"):
            role = await stack.enter_async_context(collecting.collector(name, kubernetes_shards=SHARDS))
            await role.start()
            await until(lambda: len(holders(collecting)) == SHARDS, what="all shares to be taken")
            roles.append(role)
        # Slow enough for a file of 1 MiB to hold what is written until a share is taken over.
        for name in NAMES:
            collecting.pod(name, writer(name, lines=4_000, batch=5, pause=50_000), labels=LABELS)
        for name in NAMES:
            await goes_on(collecting, name)
        yield roles


async def taken_over(collecting: Collecting, before: dict[str, str]) -> None:
    def others() -> bool:
        now = holders(collecting)
        return all(now[name] not in {"", holder} for name, holder in before.items())

    await until(others, 120, what="another to have all shares")


@pytest.mark.parametrize("collecting", ["api"], indirect=True)
async def test_shares_go_from_one_that_is_killed_and_from_one_that_stops_and_can_become_more(
    collecting: Collecting,
) -> None:
    async with shared(collecting) as (first, second):
        before = holders(collecting)
        first.kill()
        await taken_over(collecting, before)
        for name in NAMES:
            await goes_on(collecting, name)
        await first.start()
        before = holders(collecting)
        await second.stop()
        await taken_over(collecting, before)
        await first.stop()
        for role in (first, second):
            role.settings["kubernetes.shards"] = SHARDS + 1
            await role.start()
        await complete(collecting, *NAMES)
    assert await collecting.notices() == []


@pytest.mark.parametrize("collecting", ["api"], indirect=True)
async def test_one_that_was_stopped_beyond_its_lease_and_goes_on_sends_nothing(collecting: Collecting) -> None:
    async with shared(collecting) as (first, _):
        before = holders(collecting)
        os.kill(first.pid, signal.SIGSTOP)
        await taken_over(collecting, before)
        for name in NAMES:
            await goes_on(collecting, name)
        os.kill(first.pid, signal.SIGCONT)
        await first.said("is another's now", 120)
        await complete(collecting, *NAMES)
    assert await collecting.notices() == []
