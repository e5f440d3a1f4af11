"""What `kill -9` cut off in a log file comes once, as a line of its own, and holds nobody up."""

import gzip
import uuid
from pathlib import Path

import pytest

from logsvc.sources.procfile.identity import Identity, ProcfileIdentity
from logsvc.sources.procfile.mending import mend
from tests.sources.kubernetes.support import Container, MemoryBus, Node, messages
from tests.support import until

TIME = b"2026-11-23T02:00:00.123456789Z"
WHOLE = TIME + b" stdout F whole\n"
PART = TIME + b" stdout P " + b"x" * 16384 + b"\n"


def a_log(folder: Path, content: bytes, name: str = "0.log", run: int = 1) -> Path:
    identity = Identity(str(uuid.uuid4()), "web-1", "web", "local", "demo", "web", "web.1", 0, run)
    identity.write(folder / "identity")
    log = folder / "pods" / str(identity.folder) / "web" / name
    log.parent.mkdir(parents=True)
    log.write_bytes(content)
    return log


@pytest.mark.parametrize(
    ("left", "mended"),
    [
        (b"", b""),
        (WHOLE, WHOLE),
        (WHOLE + TIME + b" stdout F ha", WHOLE + TIME + b" stdout F ha\n"),
        (WHOLE + TIME + b" stdout F ", WHOLE + TIME + b" stdout F \n"),
        (WHOLE + TIME + b" std", WHOLE),
        (WHOLE + b"20", WHOLE),
        (b"2026-11-2", b""),
        (PART, PART + TIME + b" stdout F \n"),
        (PART + TIME + b" stdout P yy", PART + TIME + b" stdout P yy\n" + TIME + b" stdout F \n"),
        (PART + TIME + b" stderr F other\n", PART + TIME + b" stderr F other\n" + TIME + b" stdout F \n"),
        (PART + TIME + b" stdout F:platform up\n", PART + TIME + b" stdout F:platform up\n" + TIME + b" stdout F \n"),
        (PART + TIME + b" stdout F end\n", PART + TIME + b" stdout F end\n"),
    ],
)
def test_the_end_that_was_cut_becomes_a_line(tmp_path: Path, left: bytes, mended: bytes) -> None:
    log = a_log(tmp_path, left)
    for _ in range(2):
        mend(tmp_path / "pods", tmp_path / "identity", now=2)
        assert log.read_bytes() == mended


def test_only_the_last_file_of_an_earlier_run_is_touched(tmp_path: Path) -> None:
    running = a_log(tmp_path, WHOLE + TIME, run=3)
    earlier = a_log(tmp_path, WHOLE + TIME)
    later = earlier.with_name("10.log")
    later.write_bytes(WHOLE + TIME)
    mend(tmp_path / "pods", tmp_path / "identity", now=2)
    assert running.read_bytes() == earlier.read_bytes() == WHOLE + TIME
    assert later.read_bytes() == WHOLE


def test_a_line_that_goes_on_from_a_file_just_rotated_is_ended_too(tmp_path: Path) -> None:
    log = a_log(tmp_path, b"")
    log.with_name("0.log.20261123-020000.gz").write_bytes(gzip.compress(PART))
    log.with_name("0.log.20261123-020001").write_bytes(PART)
    mend(tmp_path / "pods", tmp_path / "identity", now=2)
    assert log.read_bytes() == TIME + b" stdout F \n"


async def test_the_source_sends_it_once_and_may_let_the_file_go(tmp_path: Path) -> None:
    """Read before the service was killed, and again behind what was mended: the fragment is neither lost nor doubled,
    and the next run's first line is not glued to it."""
    bus = MemoryBus()
    node = Node(tmp_path, bus, ProcfileIdentity(tmp_path / "identity"))
    log = a_log(tmp_path, WHOLE + PART + TIME + b" stdout P torn")
    await node.collect()
    assert not (await collected(node, log))
    mend(tmp_path / "pods", tmp_path / "identity", now=2)
    following = a_log(tmp_path, WHOLE, run=3)
    for _ in range(2):
        assert await collected(node, log)
        assert await collected(node, following)
    records = [chunk for records in bus.records for chunk in records if chunk is not None]
    assert sorted(messages(records)) == sorted([b"whole", b"x" * 16384 + b"torn", b"whole"])


async def collected(node: Node, log: Path) -> bool:
    async with node.collecting() as source:
        await source.drained()
        return source.collected(log)


async def test_where_nobody_mends_a_torn_line_comes_once_the_container_starts_again(tmp_path: Path) -> None:
    """As containerd leaves it on a node: the fragment is a line, sent once, and nothing is glued to it."""
    node = Node(tmp_path, MemoryBus())
    log: Container = node.container()
    log.write(b"one")
    log.raw(TIME + b" stdout F to")
    await node.collect()
    assert node.said() == [b"one"]
    log.crash()
    log.write(b"three")
    for _ in range(2):
        async with node.collecting() as source:
            await until(lambda: len(node.said()) >= 3)
            await source.drained()
    node.close()
    assert node.said() == [b"one", b"to", b"three"]
