"""What a rule of redaction matches is kept nowhere, neither in Kafka nor in ClickHouse, however it came."""

import aiohttp

from logsvc.bus.kafka import KafkaBus
from tests.support import until
from tests.support.ports import free_port
from tests.support.roles import Platform, Serving

SECRET = b"anna@example.com"
MOST = 1 << 20


async def text(server: Serving) -> bytes:
    headers = {"Accept": "text/plain"}
    async with aiohttp.ClientSession() as client, client.get(server.logs("demo"), headers=headers) as answer:
        return await answer.read()


async def on_kafka(platform: Platform) -> bytes:
    """The values of all records."""
    found = b""
    async with KafkaBus.open(platform.bus) as bus:
        for partition in range(bus.partitions):
            at, end = await bus.bounds(partition)
            while at < end:
                fetched = await bus.read(partition, at, MOST)
                found += b"".join(chunk.value for chunk in fetched.chunks)
                at = fetched.next
    return found


async def test_neither_collected_nor_posted_lines_keep_it(platform: Platform) -> None:
    platform.settings["redact.everywhere"] = '["email"]'
    await platform.migrate(3)
    procfile = platform.folder / "Procfile"
    procfile.write_text(f"web: echo written by {SECRET.decode()}; exec sleep 100000\n")
    server, store = platform.serve("1"), platform.store("1")
    collector, runner = platform.collect("n"), platform.procfile("n", procfile, "demo", free_port())
    async with server, store, collector, runner:
        for role in (server, store, collector, runner):
            await role.start()
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                server.logs("demo"), data=b"posted by " + SECRET, headers={"Content-Type": "text/plain"}
            ) as answer,
        ):
            assert answer.status == 200

        async def both_are_there() -> bool:
            said = await text(server)
            return b"written by [email]" in said and b"posted by [email]" in said

        await until(both_are_there, 60, "both lines")
        kept = await on_kafka(platform)
        assert kept.count(b"by [email]\n") == 2
        assert SECRET not in kept
        await platform.forget()  # Kafka hands over to the store, so that history is ClickHouse's alone
        assert await both_are_there()
        assert SECRET not in await text(server)
