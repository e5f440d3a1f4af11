"""The bus' topic is deleted and made again while every role works: history stays, and each says why it stops."""

import asyncio

import aiohttp

from logsvc.config import ClickHouse as ClickHouseSettings
from logsvc.model import Stream
from logsvc.store.server import ServerStore
from tests.chaos.readers import Tail
from tests.chaos.writer import Writer, Writing
from tests.support import until
from tests.support.recreated import STRANGE, make_anew, write_strange
from tests.support.roles import Platform, Role

DEMO = Stream("local", "demo", "web", "web.1", "app", "uid")


async def rows(platform: Platform) -> str:
    """What ClickHouse has of each line, and of what each store has taken."""
    database = platform.settings["clickhouse.database"]
    text = ""
    for query in (
        f"SELECT * FROM {database}.lines FINAL ORDER BY ALL FORMAT JSONEachRow",
        f"SELECT epoch, partition, max(offset) FROM {database}.watermarks GROUP BY ALL ORDER BY ALL FORMAT JSONEachRow",
    ):
        async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=query) as answer:
            text += await answer.text()
            assert answer.status == 200, text
    return text


async def test_history_stays_and_every_role_says_why_it_stops(platform: Platform) -> None:
    await platform.migrate(3)
    collector, store, server, drain = (
        platform.collect("n"),
        platform.store("1"),
        platform.serve("1"),
        platform.drain("1"),
    )
    async with collector, store, server, drain:
        for role in (collector, store, server, drain):
            await role.start()
        tail = Tail(lambda: server.logs("demo"))
        tailing = asyncio.create_task(tail.run())
        with Writer(platform.node("n"), Writing(lines=300)) as writer:
            written = (await asyncio.to_thread(writer.wait)).written
        await until(lambda: tail.seen.tally.complete(written), 60, "the last lines")

        async def stored() -> bool:
            return (await rows(platform)).count('"app":"demo"') >= sum(written.values())

        await until(stored, 60, "all to be stored")
        before = await rows(platform)

        await make_anew(platform.bus, 3)
        await write_strange(platform.bus, 3, DEMO)
        with Writer(platform.node("n"), Writing(writers=("late",), rate=200)):
            for role in (collector, store, server, drain):
                assert await role.ended() == 1
                assert "logsvc: " in role.stderr
                assert "it was deleted and made again" in role.stderr.splitlines()[-1]
        tailing.cancel()
        assert await rows(platform) == before
        tail.seen.tally.check(written)
        assert STRANGE.split()[-1].decode() not in before
        # Begun again they say so at once.
        for role in (collector, store, server, drain):
            assert "it was deleted and made again" in await role.refused(others_say=True)
        assert await rows(platform) == before


async def test_an_epoch_that_the_database_has_already_is_not_made_on_another_kafka(platform: Platform) -> None:
    """Its lines would take the place of those that are there."""
    await platform.migrate(3)
    database = ClickHouseSettings(
        urls=[platform.clickhouse.url], database=str(platform.settings["clickhouse.database"])
    )
    store = ServerStore(database)
    await store.record(1, {0: 7})
    await store.close()
    await platform.migrate(3)  # that Kafka knows the epoch
    other = Role(
        platform.folder / "other",
        ("migrate",),
        "",
        {**platform.settings, "kafka.prefix": f"{platform.bus.prefix}-other"},
    )
    async with other:
        assert "the database has lines of epoch 1 already" in await other.refused()
