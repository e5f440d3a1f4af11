"""The roles as processes on a real Kafka and a ClickHouse: how they start, wait, cross epochs, and stop."""

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_admin import KafkaAdmin
from logsvc.config import ClickHouse as ClickHouseSettings
from logsvc.store.server import ServerStore
from tests.chaos.readers import Tail, history, run_while
from tests.chaos.writer import Writer, Writing
from tests.support import numbered, until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster
from tests.support.ports import free_port
from tests.support.roles import Platform, Role, Serving

pytestmark = pytest.mark.timeout(300)
"""Some start ten processes one after the other, which takes a busy machine long."""

GRACE = 15.0
TEXT = {"Content-Type": "text/plain"}


async def post(url: str, first: int, count: int, key: str | None = None) -> int:
    """Numbered lines; how many were new."""
    headers = TEXT | ({"Idempotency-Key": key} if key else {})
    body = b"".join(numbered("posted", seq) + b"\n" for seq in range(first, first + count))
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return int((await answer.json())["lines"])


async def status_of(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
        return answer.status


async def migrate(platform: Platform, partitions: int = 3) -> None:
    await platform.migrate(partitions)


async def test_lines_go_from_files_to_tails_and_history_and_every_role_stops_in_order(platform: Platform) -> None:
    assert "takes lines, in 3 partitions" in await platform.migrate(3)
    collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in (collector, store, server):
            await role.start()
        assert await status_of(f"{server.url}/readyz") == 200
        with Writer(platform.node("n"), Writing(lines=500)) as writer:
            tail = Tail(lambda: server.logs("demo"))

            async def work() -> dict[str, int]:
                written = (await asyncio.to_thread(writer.wait)).written
                await until(lambda: tail.seen.tally.complete(written), 60, "the last lines")
                await stops(server)  # under a tail
                return written

            written = await run_while(work(), tail)
        tail.seen.tally.check(written)
        await stops(collector)
        await stops(store)
        await server.start()
        kept = await history(server.logs("demo"))
        kept.tally.check(written)
        assert kept.digest == tail.seen.digest
    assert "BAD" not in await asyncio.to_thread(platform.run, "check")


async def test_servers_without_a_common_key_of_sessions_are_told_of(platform: Platform) -> None:
    """An address that one of them signed is good at the others only with the same key."""
    await migrate(platform)
    one, other = platform.serve("1"), platform.serve("2")
    alone = Serving(platform.folder / "alone", free_port(), {**platform.settings, "sessions.keys": "[]"})
    async with one, other, alone:
        for server in (one, other, alone):
            await server.start()
        await post(one.logs("demo"), 0, 3)
        signed = await session_at(one)
        assert await status_of(signed) == 200
        assert await status_of(signed.replace(one.url, other.url)) == 200
        assert await status_of(signed.replace(one.url, alone.url)) == 403
        assert "sessions.keys is not set" in alone.stderr
        assert "sessions.keys is not set" not in one.stderr
    found = await asyncio.to_thread(platform.run, "check", fails=True, sessions_keys="[]")
    assert re.search(r"BAD  sessions\.keys +none", found)
    assert "32 random characters" in found


async def session_at(server: Serving) -> str:
    """The address of a new log session."""
    url = f"{server.url}/apps/demo/log-sessions"
    async with aiohttp.ClientSession() as client, client.post(url, json={"lines": 3}) as answer:
        assert answer.status == 201
        return str((await answer.json())["logplex_url"])


async def stops(role: Role) -> None:
    assert await role.stop(GRACE) == 0, role.stderr


async def test_before_the_first_migration_every_role_says_what_to_do(platform: Platform) -> None:
    for role in (platform.collect("n"), platform.serve("1"), platform.store("1")):
        async with role:
            assert "run logsvc migrate" in (await role.refused()).replace("`", "")


async def test_no_role_begins_on_a_topic_that_is_set_otherwise(platform: Platform) -> None:
    await migrate(platform)
    topic = f"{platform.bus.prefix}.1"
    async with KafkaAdmin.open(platform.bus) as admin:
        await admin.set_config(topic, {"message.timestamp.type": "CreateTime"})
    for role in (platform.collect("n"), platform.serve("1"), platform.store("1"), platform.drain("1")):
        async with role:
            said = await role.refused(others_say=True)
            assert f"{topic} message.timestamp.type is CreateTime and must be LogAppendTime" in said


async def test_a_second_collector_on_a_node_is_refused(platform: Platform) -> None:
    await migrate(platform)
    first = platform.collect("n")
    second = Role(platform.folder / "second", tuple(first.command[1:]), "", first.settings)
    async with first, second:
        await first.start()
        assert "collects this node's files already" in await second.refused()
        first.kill()
        second.launch()
        await second.said("logsvc collects")


async def test_a_second_collector_of_the_same_files_is_refused_under_another_name_too(platform: Platform) -> None:
    """With a data folder of its own; it would send every line again."""
    await migrate(platform)
    first, second = platform.collect("n"), platform.collect("other")
    (platform.node("other") / "pods").rmdir()
    (platform.node("other") / "pods").symlink_to(platform.node("n") / "pods")
    async with first, second:
        await first.start()
        assert "collects this node's files already" in await second.refused()


async def test_of_two_collectors_of_one_name_the_one_that_began_last_goes_on(platform: Platform) -> None:
    """The other ends and says so, instead of taking the name back for ever; and nothing is lost or doubled by that."""
    await migrate(platform)
    first, second, server = platform.collect("n"), platform.collect("m"), platform.serve("1")
    second = Role(second.folder, ("collect", "--node", "n", *second.command[4:]), "logsvc collects", second.settings)
    writings = [Writing(writers=(name,), rate=300) for name in ("a", "b")]
    async with first, second, server:
        await server.start()
        await first.start()
        with Writer(platform.node("n"), writings[0]) as one, Writer(platform.node("m"), writings[1]) as other:
            tally = (tail := Tail(lambda: server.logs("demo"))).seen.tally

            async def work() -> dict[str, int]:
                await until(lambda: tally.next("a") > 500, 60)
                await second.start()
                assert await first.ended() == 1
                assert "another process collects as node n now" in first.stderr
                await until(lambda: tally.next("b") > 500, 60)
                second.kill()
                written = other.finish().written
                await first.start()
                written |= (await asyncio.to_thread(one.finish)).written
                await until(lambda: tally.complete({"a": written["a"]}), 60, "the last lines of one")
                await stops(first)
                await second.start()
                await until(lambda: tally.complete(written), 60, "the last lines of the other")
                return written

            written = await run_while(work(), tail)
        tally.check(written)


async def test_roles_start_and_collect_while_clickhouse_is_away(kafka: Cluster, tmp_path: Path) -> None:
    """After an epoch has ended, too: whether it is stored can't be told then."""
    async with ClickHouse(tmp_path / "clickhouse") as clickhouse:
        platform = Platform(tmp_path, kafka, clickhouse)
        await migrate(platform)
        collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
        with Writer(platform.node("n"), Writing(lines=400)) as writer:
            async with collector, store, server:
                await collector.start()
                written = (await asyncio.to_thread(writer.wait)).written
                await server.start()
                tail = Tail(lambda: server.logs("demo"))
                await run_while(until(lambda: tail.seen.tally.complete(written), 60), tail)
                await stops(collector)
                await stops(server)
                await migrate(platform, 2)
                clickhouse.kill()
                for role in (collector, server):
                    await role.start()
                store.launch()
                await store.said("the store waits")
                await post(server.logs("demo"), 0, 1)
                with Writer(platform.node("n"), Writing(app="more", lines=100)) as more:
                    report = await asyncio.to_thread(more.wait)
                    live = Tail(lambda: server.logs("more"))
                    await run_while(until(lambda: live.seen.tally.complete(report.written), 60, "live lines"), live)
                await clickhouse.start()
                await store.ready()
                await until(lambda: has_lines_of(platform, 2), 60, "both epochs are stored")
                kept = await history(server.logs("demo"))
                kept.tally.check(written | {"posted": 1})


async def has_lines_of(platform: Platform, epochs: int) -> bool:
    """Whether ClickHouse has recorded that it has something of so many epochs."""
    database = platform.settings.get("clickhouse.database", "logsvc")
    query = f"SELECT count(DISTINCT epoch) FROM {database}.watermarks WHERE offset > 0"
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=query) as answer:
        return answer.status == 200 and int(await answer.text()) == epochs


async def test_a_cursor_of_an_old_epoch_goes_on_through_all_that_followed(platform: Platform) -> None:
    """Before they are stored, and after; and a post that is repeated in a later epoch is the same post."""
    await migrate(platform)
    server, store = platform.serve("1"), platform.store("1")
    async with server, store:
        await server.start()
        url = server.logs("demo")
        assert await post(url, 0, 10, "first") == 10
        begin = await history(url)
        for number, partitions in enumerate((5, 2), 1):
            await migrate(platform, partitions)
            await until(lambda number=number, url=url: crossed(url, 10 * number), 60, "the server has crossed")
        await stops(server)
        for _ in ("on Kafka", "stored"):
            await server.start()
            assert await post(url, 0, 10, "first") == 0
            tail = Tail(lambda: url)
            tail.seen.cursor = begin.first
            reading = asyncio.create_task(tail.run())
            await until(lambda tail=tail: tail.seen.tally.next("posted") == 30, 60, "what there is")
            reading.cancel()
            whole = await history(url)
            whole.tally.check({"posted": 30})
            assert tail.seen.lines == 29
            await stops(server)
            if not store.running:
                await store.start()
                await until(lambda: has_lines_of(platform, 3), 60, "all epochs are stored")
        await stops(store)


async def crossed(url: str, first: int) -> bool:
    """Post the next ten lines once the new epoch takes them."""
    headers = TEXT | {"Idempotency-Key": f"from {first}"}
    body = b"".join(numbered("posted", seq) + b"\n" for seq in range(first, first + 10))
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        return answer.status == 200


async def test_an_epoch_is_left_though_the_writer_that_finished_it_was_killed(platform: Platform) -> None:
    """It had inserted and committed, and not recorded; nothing else comes in that epoch."""
    await migrate(platform)
    server, store = platform.serve("1"), platform.store("1")
    database = ClickHouseSettings(
        urls=[platform.clickhouse.url], database=str(platform.settings["clickhouse.database"])
    )
    async with server, store:
        await server.start()
        await post(server.logs("demo"), 0, 10)
        killed = ServerStore(database)
        async with KafkaBus.open(platform.bus) as bus:
            group = bus.group()
            while not (fetched := await group.fetch(1 << 20, 1.0)):
                pass
            await killed.insert([chunk for each in fetched for chunk in each.chunks])
            await group.commit({each.partition: each.next for each in fetched})
        await killed.close()
        await migrate(platform, 2)
        await until(lambda: crossed(server.logs("demo"), 10), 60, "the server has crossed")
        await store.start()
        await until(lambda: has_lines_of(platform, 2), 60, "the second epoch is stored")
        (await history(server.logs("demo"))).tally.check({"posted": 20})


async def test_a_cursor_of_an_epoch_that_begins_just_now_is_asked_to_wait(platform: Platform) -> None:
    await migrate(platform)
    async with platform.serve("1") as server:
        assert isinstance(server, Serving)
        await server.start()
        await post(server.logs("demo"), 0, 1)
        tail = f"{server.logs('demo')}?tail=1"
        assert await status_of(tail, **{"Last-Event-ID": "2.0.0.0"}) == 503
        assert await status_of(tail, **{"Last-Event-ID": "3.0.0.0"}) == 400


@pytest.mark.parametrize("lost", [False, True], ids=["checkpoint", "checkpoint lost"])
async def test_a_collector_killed_before_an_epoch_ends_doubles_nothing_in_the_next(
    platform: Platform, *, lost: bool
) -> None:
    await migrate(platform)
    collector, server = platform.collect("n"), platform.serve("1")
    async with collector, server:
        await collector.start()
        await server.start()
        with Writer(platform.node("n"), Writing(rate=500)) as writer:
            tail = Tail(lambda: server.logs("demo"))

            async def work() -> dict[str, int]:
                await until(lambda: tail.seen.lines > 1000, 60)
                collector.kill()
                if lost:
                    (platform.node("n") / "collector" / "checkpoint").unlink()
                await migrate(platform, 7)
                await collector.start()
                await until(lambda lines=tail.seen.lines: tail.seen.lines > lines + 1000, 60)
                written = (await asyncio.to_thread(writer.finish)).written
                await until(lambda: tail.seen.tally.complete(written), 60, "the last lines")
                return written

            written = await run_while(work(), tail)
        tail.seen.tally.check(written)


async def test_a_lost_checkpoint_is_made_up_for_by_clickhouse_where_kafka_has_nothing_any_more(
    platform: Platform,
) -> None:
    await migrate(platform)
    collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in (collector, store, server):
            await role.start()
        with Writer(platform.node("n"), Writing(rate=300)) as writer:
            tail = Tail(lambda: server.logs("demo"))

            async def work() -> dict[str, int]:
                await until(lambda: tail.seen.lines > 1000, 60)
                collector.kill()
                (platform.node("n") / "collector" / "checkpoint").unlink()
                await platform.forget()
                await collector.start()
                written = (await asyncio.to_thread(writer.finish)).written
                await until(lambda: tail.seen.tally.complete(written), 60, "the last lines")
                return written

            written = await run_while(work(), tail)
        tail.seen.tally.check(written)
        assert (await history(server.logs("demo"))).digest == tail.seen.digest
