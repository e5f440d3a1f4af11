"""An operator removes an app's lines: from then on nobody reads them, wherever they are, and what comes later stays."""

from pathlib import Path

from logsvc.service.purging import LocalPurges
from logsvc.store.protocol import Store
from tests.api.served import SSE, Events, Served, problem_of
from tests.api.test_tokens import guarded
from tests.support.wait import until


async def remove(served: Served) -> str:
    async with served.client.delete(served.logs) as response:
        assert response.status == 202
        return str((await response.json())["before"])


async def spread(served: Served) -> list[str]:
    """Lines in the store, lines that are only on the bus, and cursors of them."""
    await served.rig.write(10)
    await served.rig.write(2, app=served.rig.neighbour)
    await served.rig.store_upto(await served.rig.end())
    await served.rig.write(10)
    lines = await served.objects("num=20&cursor=1")
    assert [line["message"] for line in lines] == served.all()
    return [line["cursor"] for line in lines]


async def test_nothing_of_it_is_read_from_store_or_bus(served: Served) -> None:
    cursors = await spread(served)
    begin = await remove(served)
    await served.rig.write(3)
    newer = served.all()[-3:]
    for query in ("num=100", "since=5000w", "until=2030-01-01T00:00:00Z"):
        assert await served.messages(query) == newer
    assert await served.messages("grep=m1") == []
    assert await served.messages(f"before={begin}&num=5") == []
    for cursor in (cursors[0], cursors[12], cursors[-1]):
        after = await served.objects(f"after={cursor}")
        assert [line.get("message") for line in after] == [None, *newer]
        assert "removed for good" in after[0]["notice"]
        assert await served.messages(f"before={cursor}") == []
    assert await served.messages(f"after={begin}") == newer
    assert await count(served) == 3


async def count(served: Served) -> int:
    async with served.client.get(f"{served.url}/v1/apps/{served.name}/volume?since=5000w") as response:
        assert response.status == 200
        return sum(bucket["lines"] for bucket in (await response.json())["buckets"])


async def test_a_tail_is_told_and_goes_on_with_what_comes(served: Served) -> None:
    await spread(served)
    async with served.get("tail=1&num=5", **SSE) as response, served.get("tail=1&num=1", **SSE) as other:
        events, others = Events(response), Events(other)
        assert [line["message"] for line in await events.lines(5)] == served.all()[-5:]
        assert len(await others.lines(1)) == 1
        await served.rig.window_is_full()
        before = served.rig.router.window(0)
        assert before is not None
        assert len(before)
        await remove(served)
        window = served.rig.router.window(0)
        assert window is not None
        await until(lambda: not any(len(feed) for app, feed in window.feeds.items() if app == served.rig.app))
        await served.rig.write(2)
        for each in (events, others):
            event = await each.next()
            while event is not None and event.type != "message":
                assert "removed for good" in event.data or not event.data
                event = await each.next()
            assert event is not None
            assert event.data.count('"message"') == 2


async def test_an_app_of_which_all_was_removed_is_not_there_and_a_neighbour_stays(served: Served) -> None:
    await spread(served)
    await remove(served)
    assert (await served.problem())["status"] == 404
    async with served.client.delete(served.logs) as response:
        assert (await problem_of(response))["status"] == 404
    url = served.logs.replace(served.name, served.rig.neighbour.app)
    async with served.client.get(url) as response:
        assert (await response.text()).count("\n") == 2


async def test_what_was_removed_is_remembered_over_a_restart(served: Served) -> None:
    await spread(served)
    begin = await remove(served)
    again = LocalPurges(served.rig.bus, served.rig.folder / "purges")
    assert str(again.purges.place(served.rig.app)) == begin
    await again.remove(served.rig.neighbour)
    both = LocalPurges(served.rig.bus, served.rig.folder / "purges").purges
    assert len(both.since(0)) == 2


async def test_it_takes_the_scope_of_an_operator(store: Store, tmp_path: Path) -> None:
    async with guarded(store, tmp_path) as site:
        served, client = site.served, site.served.client
        await served.rig.write(3)
        async with client.delete(served.logs, headers=site.header()) as response:
            assert (await problem_of(response))["status"] == 403
        operator = site.header(tenant=None, scope="logs:operate")
        chosen = {**operator, "Logsvc-Tenant": "local"}
        async with client.delete(served.logs, headers={**operator, "Logsvc-Tenant": "other"}) as response:
            assert response.status == 404
        async with client.delete(served.logs, headers=chosen) as response:
            assert response.status == 202
        async with client.get(served.logs, headers=site.header()) as response:
            assert response.status == 404
