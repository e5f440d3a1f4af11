"""Kafka, ClickHouse or a server is away for a while: what is read goes on where it was, and nothing is left out."""

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.chaos.readers import FORMS, Seen, Tail, history, run_while
from tests.chaos.writer import Pod, Writer, Writing
from tests.service.test_stopping import rows
from tests.support import until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster
from tests.support.roles import Platform

pytestmark = pytest.mark.timeout(600)

GRACE = 15.0
AWAY = "The store is away: older lines come when it is back"
MISSING = "web: Lines may be missing here: a log file was deleted"


class Told(Seen):
    """Keeps what every line says, and every notice."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def line(self, line: bytes, cursor: str, written: str) -> None:
        super().line(line, cursor, written)
        self.messages.append(orjson.loads(line)["message"])

    def notice(self, text: str) -> None:
        super().notice(text)
        self.messages.append(text)


async def test_what_is_deleted_while_kafka_is_away_is_read_or_told_at_its_place(
    platform: Platform, kafka: Cluster
) -> None:
    """By a collector that has the file, it is read all the same; what one that was killed had not read is lost."""
    await platform.migrate(3)
    collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
    pod = Pod(platform.node("n"), "web", Writing(rate=1000, rotate=2**30, long_every=0), Counter())
    tail = Tail(lambda: server.logs("demo"), "ndjson")
    tail.seen = told = Told()
    async with collector, store, server:
        for role in (collector, store, server):
            await role.start()

        async def work() -> int:
            pod.catch_up(0.5)
            await until(lambda: told.tally.complete({"web": 500}), what="the first lines")
            with kafka.frozen():
                pod.catch_up(1)
                await collector.said("collection waits")
                rotate_and_delete(pod)
                pod.catch_up(1.5)
            await until(lambda: told.tally.complete({"web": 1500}), what="lines of the deleted file, and behind it")
            with kafka.frozen():
                pod.catch_up(2)
                collector.kill()
                rotate_and_delete(pod)
                first = pod.seq
                pod.catch_up(2.5)
                collector.launch()
            await collector.ready()
            await until(lambda: told.tally.complete({"web": 2500}), what="the last lines")
            return first

        with closing(pod):
            first = await run_while(work(), tail)
        (notice,) = told.notices
        assert notice.startswith(MISSING)
        place = told.messages.index(notice)
        assert f"writer=web seq={first} " in told.messages[place + 1]
        assert 1500 <= place < first  # what was on its way when the collector was killed may have arrived
        assert (told.tally.lines, told.tally.doubled, told.tally.misordered) == (place + 2500 - first, 0, 0)
        assert told.tally.lost({"web": 2500}) == first - place
        await until(lambda: rows(platform, len(told.messages)), what="all is stored")
        await history(server.logs("demo"), seen=(kept := Told()))
        assert kept.messages == told.messages


def rotate_and_delete(pod: Pod) -> None:
    """As a kubelet does that keeps few files, whoever has read them."""
    pod.rotate().unlink()


async def test_tails_go_on_while_clickhouse_is_killed_and_history_comes_back_with_it(
    kafka: Cluster, tmp_path: Path
) -> None:
    """Whoever needs what ClickHouse alone has is told, and waits for it."""
    async with ClickHouse(tmp_path / "clickhouse") as clickhouse:
        platform = Platform(tmp_path, kafka, clickhouse, {"kafka.delivery_timeout": 5, "clickhouse.database": "away"})
        await platform.migrate(1)
        collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
        async with collector, store, server:
            await collector.start()
            await store.start()
            with Writer(platform.node("n"), Writing(writers=("early",), lines=1000)) as writer:
                written = (await asyncio.to_thread(writer.wait)).written
                await until(lambda: rows(platform, 1000), what="the early lines are stored")
            await platform.forget()
            await server.start()
            live, older = Tail(lambda: server.logs("demo"), from_start=False), Tail(lambda: server.logs("demo"))
            with Writer(platform.node("n"), Writing(writers=("late",), rate=200)) as writer:

                async def away() -> dict[str, int]:
                    await until(lambda: older.seen.notices, what="a notice")
                    assert AWAY in older.seen.notices[0]
                    seen = live.seen.lines
                    await until(lambda: live.seen.lines > seen + 500, what="live lines")
                    assert older.seen.lines == 0
                    await clickhouse.start()
                    both = written | (await asyncio.to_thread(writer.finish)).written
                    for tail in (live, older):
                        await until(lambda tail=tail: tail.seen.tally.complete({"late": both["late"]}))
                    await until(lambda: rows(platform, sum(both.values())), what="all is stored")
                    return both

                async def work() -> dict[str, int]:
                    await until(lambda: live.seen.lines > 100, what="live lines")
                    clickhouse.kill()
                    status, headers = await asked(f"{server.logs('demo')}?num=5000")
                    assert (status, "Retry-After" in headers) == (503, True)
                    both: dict[str, int] = await run_while(away(), older)
                    return both

                written = await run_while(work(), live)
            older.seen.tally.check(written)
            live.seen.tally.check({"late": written["late"]})
            assert live.seen.notices == []
            kept = await history(server.logs("demo"))
            assert kept.digest == older.seen.digest


async def asked(url: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return answer.status, dict(answer.headers)


async def test_tails_of_a_killed_server_go_on_at_another_while_clickhouse_is_frozen(
    platform: Platform, clickhouse: ClickHouse
) -> None:
    """How far the store is, Kafka knows as well."""
    platform.settings |= {"clickhouse.read_timeout": 120}
    await platform.migrate(3)
    collector, store, servers = platform.collect("n"), platform.store("1"), [platform.serve("1"), platform.serve("2")]
    async with collector, store, servers[0], servers[1]:
        for role in (collector, store, *servers):
            await role.start()
        tails = [Tail(lambda: servers[0].logs("demo"), form) for form in FORMS]
        with Writer(platform.node("n"), Writing(rate=200)) as writer:

            async def work() -> dict[str, int]:
                await until(lambda: all(tail.seen.lines > 500 for tail in tails), what="every tail has lines")
                clickhouse.freeze()
                try:
                    servers.pop(0).kill()
                    seen = max(tail.seen.lines for tail in tails)
                    await until(lambda: all(tail.seen.lines > seen + 500 for tail in tails), what="live lines")
                finally:
                    clickhouse.thaw()
                written = (await asyncio.to_thread(writer.finish)).written
                for tail in tails:
                    await until(lambda tail=tail: tail.seen.tally.complete(written), what="the last lines")
                return written

            written = await run_while(work(), *tails)
        for tail in tails:
            tail.seen.tally.check(written)
            assert tail.seen.notices == []


async def test_a_server_that_stood_still_catches_up_from_what_others_keep(platform: Platform) -> None:
    """Meanwhile so much was written that its memory doesn't hold it, and Kafka has dropped it."""
    platform.settings |= {"tail.window_bytes": "1MiB"}
    await platform.migrate(1)
    collector, store, server = platform.collect("n"), platform.store("1"), platform.serve("1")
    async with collector, store, server:
        for role in (collector, store, server):
            await role.start()
        tails = [Tail(lambda: server.logs("demo"), form) for form in FORMS]
        with Writer(platform.node("n"), Writing(rate=500, long_every=101)) as writer:

            async def work() -> dict[str, int]:
                await until(lambda: all(tail.seen.lines > 500 for tail in tails), what="every tail has lines")
                server.freeze()
                await until(lambda: rows(platform, tails[0].seen.lines + 5000), what="lines that it hasn't seen")
                await platform.forget()
                server.thaw()
                written = (await asyncio.to_thread(writer.finish)).written
                for tail in tails:
                    await until(lambda tail=tail: tail.seen.tally.complete(written), what="the last lines")
                return written

            written = await run_while(work(), *tails)
        for tail in tails:
            tail.seen.tally.check(written)
            assert (tail.seen.notices, tail.connections) == ([], 1)
        assert await server.stop(GRACE) == 0, server.stderr
