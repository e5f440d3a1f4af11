"""A planned stop under load: what a role has done is written down before it goes, and others take over at once."""

import asyncio
from pathlib import Path

import aiohttp

from logsvc.bus.kafka import KafkaBus
from logsvc.sources.checkpoint import Checkpoint
from tests.chaos.readers import FORMS, Tail, run_while
from tests.chaos.writer import Writer, Writing
from tests.kafka.load import Load, loading
from tests.support import until
from tests.support.kafka import Cluster
from tests.support.receiver import Receiver
from tests.support.roles import Platform

GRACE = 15.0
SHARED = "partitions are read for the store here"


async def below(platform: Platform, table: str) -> dict[int, int]:
    """By partition, the offset behind the last one that a table of ClickHouse has."""
    behind = "max(offset)" if table == "watermarks" else "max(offset) + 1"
    query = f"SELECT partition, {behind} FROM {platform.settings['clickhouse.database']}.{table} GROUP BY partition"
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=query) as answer:
        assert answer.status == 200, await answer.text()
        rows = [line.split("\t") for line in (await answer.text()).splitlines()]
    return {int(partition): int(offset) for partition, offset in rows}


async def test_a_store_commits_what_it_has_inserted_and_others_take_over(platform: Platform, tmp_path: Path) -> None:
    await platform.migrate(3)
    first, second = platform.store("1"), platform.store("2")
    async with first, second, KafkaBus.open(platform.bus) as bus:
        await first.start()
        load = Load(bus, tmp_path)
        async with loading(load):
            await until(lambda: rows(platform, 1000), 60, "rows")
            assert await first.stop(GRACE) == 0, first.stderr
        inserted = await below(platform, "lines")
        committed = await bus.queries.committed(bus.group_id, bus.topic, range(3))
        assert inserted
        assert {p: end for p, end in inserted.items() if end > committed.get(p, 0)} == {}
        assert await below(platform, "watermarks") == committed
        await first.start()
        await first.said(f"3 of 3 {SHARED}")
        await second.start()
        await second.said(SHARED)
        assert await first.stop(GRACE) == 0, first.stderr
        # It left the group: nobody waits for its session to end, which takes 10 s.
        await second.said(f"3 of 3 {SHARED}", 8)
        ends = [(await bus.bounds(partition)).end for partition in range(3)]

        async def all_is_stored() -> bool:
            marks = await bus.watermarks(range(3))
            return all(marks[partition] >= end for partition, end in enumerate(ends))

        await until(all_is_stored, 60)


async def rows(platform: Platform, count: int) -> bool:
    query = f"SELECT count() FROM {platform.settings['clickhouse.database']}.lines"
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=query) as answer:
        return answer.status == 200 and int(await answer.text()) >= count


async def test_a_collector_saves_its_places(platform: Platform) -> None:
    """So that its next start has nothing to look up but what came later."""
    await platform.migrate(3)
    async with platform.collect("n") as collector, KafkaBus.open(platform.bus) as bus:
        await collector.start()
        with Writer(platform.node("n"), Writing(rate=500)) as writer:
            await until(lambda: has_more(bus, 200), 60, "chunks on Kafka")
            assert await collector.stop(GRACE) == 0, collector.stderr
            writer.finish()
        snapshot = Checkpoint(platform.node("n") / "collector" / "checkpoint", "n").load()
        assert snapshot is not None
        ends = {partition: (await bus.bounds(partition)).end for partition in range(3)}
        assert snapshot.cursors == ends
        assert snapshot.positions


async def has_more(bus: KafkaBus, records: int) -> bool:
    return sum([(await bus.bounds(partition)).end for partition in range(bus.partitions)]) > records


async def test_every_role_is_gone_in_time_though_kafka_is_frozen(platform: Platform, kafka: Cluster) -> None:
    """Connections stay, and nothing answers: neither what is on its way, nor who is asked to let somebody go."""
    platform.settings |= {"http.grace": 2, "store.grace": 2, "kafka.delivery_timeout": 120}
    platform.settings |= {"drains.http": True, "drains.allow": '["127.0.0.1/32"]'}
    await platform.migrate(3)
    collector, store, server, drain = (
        platform.collect("n"),
        platform.store("1"),
        platform.serve("1"),
        platform.drain("1"),
    )
    collector.settings["kafka.delivery_timeout"] = 5  # it waits for so long
    roles = collector, store, server, drain
    async with collector, store, server, drain, Receiver().listening() as receiver:
        for role in roles:
            await role.start()
        await server.add_drain("demo", receiver.url)
        with Writer(platform.node("n"), Writing(rate=200)):
            tail = Tail(lambda: server.logs("demo"))

            async def work() -> None:
                await until(lambda: tail.seen.lines > 500 and receiver.verdict.tally.lines > 500, 60, "lines")
                await until(lambda: rows(platform, 500), 60, "rows")
                with kafka.frozen():
                    statuses = await asyncio.gather(*(role.stop(4 * GRACE) for role in roles))
                assert statuses == [0] * 4

            await run_while(work(), tail)


async def test_tails_of_a_server_go_on_at_another(platform: Platform) -> None:
    """Each is told to come back once, and takes up where it was, though nobody has watched their app there."""
    await platform.migrate(3)
    roles = (platform.collect("n"), platform.store("1"), first := platform.serve("1"), second := platform.serve("2"))
    async with roles[0], roles[1], first, second:
        for role in roles:
            await role.start()
        open_to = first
        with Writer(platform.node("n"), Writing(rate=200)) as writer:
            tails = [Tail(lambda: open_to.logs("demo"), FORMS[n % 4], from_start=False) for n in range(52)]

            async def work() -> dict[str, int]:
                nonlocal open_to
                await until(lambda: all(tail.seen.lines for tail in tails), 60, "every tail has lines")
                for tail in tails:
                    tail.refused = 0  # there was no such app before its first line
                open_to = second
                assert await first.stop(GRACE) == 0, first.stderr
                written = (await asyncio.to_thread(writer.finish)).written
                await until(lambda: all(tail.seen.tally.complete(written) for tail in tails), 60, "the last lines")
                return written

            written = await run_while(work(), *tails)
        for tail in tails:
            tail.seen.tally.check(written)
            assert tail.seen.notices == []
            assert (tail.connections, tail.refused) == (2, 0)
            assert tail.farewells == {"sse": ["retry: 200"], "websocket": ["1012"]}.get(tail.form, [])
