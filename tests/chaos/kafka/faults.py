"""What happens to roles, Kafka, ClickHouse and clients. `over` says from when on lines have to come again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tests.chaos.kafka.form import NODES, Form
from tests.chaos.kafka.rig import Rig
from tests.support import until
from tests.support.kafka import Broker
from tests.support.receiver import answer, hang
from tests.support.roles import Role

GRACE = 15.0
"""Seconds within which a role that is asked to stop has to be gone; its own grace and a busy machine's."""
SLOW = 0.05
"""Seconds that a write to the store's disk takes while that is slow."""
CUTS = 30


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind."""

    name: str
    make: Callable[[Rig, random.Random], Awaitable[None]]
    target: float | None = None
    """Seconds within which every tail should be live again; every drain, where the fault is one of theirs."""
    of_drains: bool = False


def faults(form: Form) -> list[Fault]:
    """Those that are asked for."""
    return [fault for fault in _all(form) if form.only in {"", fault.name}]


def _all(form: Form) -> list[Fault]:
    return [
        Fault("kill a collector", kill_a_collector),
        Fault("kill a collector, lose its places", lose_a_checkpoint),
        Fault("kill a store", kill_a_store),
        Fault("kill a server", kill_a_server, 2),
        Fault("kill the leader of a partition", kill_the_leader, 5),
        Fault("kill and restart Kafka", restart_kafka, 5),
        *(Fault(f"stop a broker for {time:g} s", partial(stop_a_broker, time)) for time in form.stops),
        *(Fault(f"stop Kafka for {time:g} s", partial(stop_kafka, time)) for time in form.stops),
        Fault("kill and restart ClickHouse", restart_clickhouse),
        Fault("slow disk of ClickHouse", slow_disk),
        Fault("cut connections of clients", cut_clients),
        Fault("begin an epoch", begin_an_epoch),
        Fault("restart servers in turn", restart_servers_in_turn),
        Fault("replace a collector", replace_a_collector),
        Fault("add and remove a store", add_and_remove_a_store),
        Fault("kill and restart a drain role", kill_a_drain_role, 10, of_drains=True),
        Fault("receiver of drains fails", fail_to_receive, 10, of_drains=True),
    ]


async def kill_a_collector(running: Rig, rng: random.Random) -> None:
    await _kill(running, rng.choice(running.collectors))


async def lose_a_checkpoint(running: Rig, rng: random.Random) -> None:
    """The next one asks Kafka and ClickHouse for them."""
    number = rng.randrange(len(NODES))
    running.collectors[number].kill()
    (running.platform.node(NODES[number]) / "collector" / "checkpoint").unlink(missing_ok=True)
    running.over()
    await running.collectors[number].start()


async def kill_a_store(running: Rig, rng: random.Random) -> None:
    await _kill(running, rng.choice(running.stores))


async def kill_a_server(running: Rig, rng: random.Random) -> None:
    await _kill(running, rng.choice(running.servers))


async def _kill(running: Rig, role: Role) -> None:
    role.kill()
    running.over()
    await role.start()


async def kill_a_drain_role(running: Rig, rng: random.Random) -> None:
    """The other one takes over; then they share drains again."""
    role = rng.choice(running.drains)
    running.drains.remove(role)  # nobody starts it again meanwhile
    role.kill()
    running.over()
    await running.live()
    await role.start()
    running.drains.append(role)


async def fail_to_receive(running: Rig, _: random.Random) -> None:
    """It answers 500, and then nothing at all."""
    for behave in (answer(500), hang):
        running.receiver.behave = behave
        await asyncio.sleep(running.form.failing)  # the length of the fault; nothing is waited for
    running.receiver.behave = answer()
    running.over()


async def kill_the_leader(running: Rig, _: random.Random) -> None:
    """The others take over once they have found out, and go on while it is away."""
    broker = await running.leader()
    broker.kill()
    await running.writable()
    running.over()
    await running.live()
    await asyncio.to_thread(running.kafka.revive, broker)
    await running.in_sync()


async def restart_kafka(running: Rig, _: random.Random) -> None:
    """`kill -9` of all brokers; roles wait for them."""
    await asyncio.to_thread(running.kafka.restart)
    await running.writable()
    running.over()
    await running.in_sync()


async def stop_a_broker(seconds: float, running: Rig, _: random.Random) -> None:
    await _stop_brokers(seconds, running, [await running.leader()])


async def stop_kafka(seconds: float, running: Rig, _: random.Random) -> None:
    await _stop_brokers(seconds, running, running.kafka.brokers)


async def _stop_brokers(seconds: float, running: Rig, brokers: list[Broker]) -> None:
    """Connections stay, nothing answers, for longer than a collector waits: what it had sent is unknown then."""
    for broker in brokers:
        broker.pause()
    await asyncio.sleep(seconds)  # the length of the fault; nothing is waited for
    for broker in brokers:
        broker.resume()
    await running.writable()
    running.over()
    await running.in_sync()


async def restart_clickhouse(running: Rig, _: random.Random) -> None:
    """`kill -9`; tails go on live while it is away."""
    running.clickhouse.kill()
    running.over()
    await running.live()
    await running.clickhouse.start()


async def slow_disk(running: Rig, _: random.Random) -> None:
    """Lines wait on Kafka; tails go on live."""
    with running.clickhouse.slow_disk(SLOW):
        running.over()
        await asyncio.sleep(running.form.slow)  # the length of the fault; nothing is waited for
        await running.live()


async def cut_clients(running: Rig, _: random.Random) -> None:
    """At random bytes, each connection after the other."""
    enough = running.wire.cuts + CUTS
    running.wire.cutting = True
    await until(lambda: running.wire.cuts >= enough, 300, f"{CUTS} cuts")
    running.wire.cutting = False


async def begin_an_epoch(running: Rig, rng: random.Random) -> None:
    """Another number of partitions."""
    await running.migrate(rng.choice([count for count in range(3, 10) if count != running.partitions]))


async def restart_servers_in_turn(running: Rig, _: random.Random) -> None:
    """As an update of the software does it."""
    for server in running.servers:
        await stop(server)
        await server.start()


async def replace_a_collector(running: Rig, rng: random.Random) -> None:
    """A stop in order, and a start."""
    collector = rng.choice(running.collectors)
    await stop(collector)
    await collector.start()


async def add_and_remove_a_store(running: Rig, _: random.Random) -> None:
    """Partitions are shared out anew, twice."""
    async with running.platform.store("more") as more:
        await more.start()
        await more.said("partitions are read for the store here")
        await stop(more)


async def stop(role: Role) -> None:
    """In order, within its grace."""
    began = time.monotonic()
    assert await role.stop(GRACE) == 0, role.stderr
    assert time.monotonic() - began < GRACE
