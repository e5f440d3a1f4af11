"""Records that a role can't take: ClickHouse refuses one for good, or a newer logsvc has written it."""

import asyncio

import aiohttp
from aiokafka import AIOKafkaProducer

from logsvc.bus.dead_letters import count_aside, dead_topic
from logsvc.bus.kafka import KafkaBus
from logsvc.bus.kafka_client import connection
from logsvc.bus.kafka_queries import KafkaQueries
from logsvc.model import AppId, Stream
from tests.chaos.readers import Tail, history
from tests.support import numbered, until
from tests.support.roles import Platform

DEMO = AppId("local", "demo")
POISON = b"poison, which nobody can hold"


async def post(url: str, *lines: bytes) -> None:
    headers = {"Content-Type": "text/plain"}
    body = b"".join(line + b"\n" for line in lines)
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def query(platform: Platform, text: str) -> str:
    async with aiohttp.ClientSession() as client, client.post(platform.clickhouse.url, data=text) as answer:
        said = await answer.text()
        assert answer.status == 200, said
        return said


async def test_a_chunk_that_clickhouse_refuses_is_set_aside_and_the_store_goes_on(platform: Platform) -> None:
    await platform.migrate(3)
    database = platform.settings["clickhouse.database"]
    await query(platform, f"ALTER TABLE {database}.lines ADD CONSTRAINT fine CHECK NOT startsWith(message, 'poison')")
    store, server = platform.store("1"), platform.serve("1")
    async with store, server:
        await store.start()
        await server.start()
        await post(server.logs("demo"), *(numbered("before", seq) for seq in range(10)))
        await post(server.logs("demo"), POISON)
        await post(server.logs("demo"), *(numbered("after", seq) for seq in range(10)))
        await post(server.logs("other"), *(numbered("other", seq) for seq in range(10)))

        async with KafkaBus.open(platform.bus) as bus:
            ends = {partition: (await bus.bounds(partition)).end for partition in range(3)}

            async def stored() -> bool:
                return await bus.watermarks(range(3)) == ends

            await until(stored, 120, "the watermark to go on behind it")
        assert "was set aside: " in store.stderr

        assert await count_aside(platform.bus, DEMO) == 1
        async with KafkaQueries.open(platform.bus) as queries:
            (record,), _ = await queries.records(dead_topic(platform.bus.prefix), 0, 0)
        told = dict(record.headers)
        assert POISON in record.value
        assert Stream.of(record.key).app_id == DEMO
        assert told["place"].startswith(b"1.")
        assert b"VIOLATED_CONSTRAINT" in told["reason"]

        kept = await history(server.logs("demo"))
        kept.tally.check({"before": 10, "after": 10})
        (await history(server.logs("other"))).tally.check({"other": 10})
        notices = await query(platform, f"SELECT message FROM {database}.lines WHERE dyno = 'logsvc' FORMAT TSVRaw")
        assert notices.startswith("1 line can't be kept here and was set aside: ")
        assert POISON.decode() not in await query(platform, f"SELECT message FROM {database}.lines")


async def test_readers_stop_at_a_record_of_a_newer_logsvc_and_say_so(platform: Platform) -> None:
    """To skip it would lose lines. Who only writes goes on."""
    await platform.migrate(3)
    collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in (collector, store, server):
            await role.start()
        await post(server.logs("demo"), *(numbered("before", seq) for seq in range(10)))
        tail = Tail(lambda: server.logs("demo"))
        tailing = asyncio.create_task(tail.run())
        await until(lambda: tail.seen.tally.complete({"before": 10}), 60, "the tail to follow")
        count = f"SELECT count() FROM {platform.settings['clickhouse.database']}.lines FINAL WHERE app = 'demo'"

        async def stored() -> bool:
            return await query(platform, count) == "10\n"

        await until(stored, 60, "what was before to be stored")
        producer = AIOKafkaProducer(**connection(platform.bus))
        await producer.start()
        key = Stream("local", "demo", "web", "web.1", "app", "uid").key()
        await producer.send_and_wait(
            f"{platform.bus.prefix}.1", b"?", key=key, partition=DEMO.partition(3), headers=[("v", b"2")]
        )
        await producer.stop()
        for role in (store, server):
            assert await role.ended() == 1
            assert "has format 2, newer than this logsvc reads: update logsvc" in role.stderr.splitlines()[-1]
        tailing.cancel()
        assert await stored()
        assert collector.running
