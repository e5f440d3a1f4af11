"""Whatever is done to files and source, in any order: the same lines once."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from logsvc.formats import cri
from logsvc.sources.kubernetes import assemble, lane
from logsvc.sources.kubernetes.files import FilesSource
from tests.sources.kubernetes.support import Container, MemoryBus, Node, compress


@contextmanager
def small_limits() -> Iterator[None]:
    """Lines of at most 256 bytes, chunks and reads of 512, so that examples stay small."""
    with (
        patch.object(assemble, "MAX_LINE", 256),
        patch.object(assemble, "SEGMENT", 256),
        patch.object(assemble, "MAX_CHUNK", 512),
        patch.object(lane, "SEGMENT", 256),
        patch.object(lane, "TURN", 512),
        patch.object(cri, "_runs", partial(cri._runs, longest=256 - 64)),
    ):
        yield


class Say(NamedTuple):
    stream: str
    text: bytes
    tag: str


class Fail(NamedTuple):
    """The bus fails at one of the next appends."""

    after: int
    kept: bool


class Kill(NamedTuple):
    """The source works until so many appends, and a little longer, and is killed."""

    after: int
    longer: int


texts = st.integers(0, 60).map(lambda size: bytes(97 + number % 26 for number in range(size)))
long_texts = st.integers(0, 900).map(lambda size: bytes(97 + number % 26 for number in range(size)))
tags = st.sampled_from(["F", "F", "P"])
steps = st.lists(
    st.builds(Say, st.just("stdout"), texts, tags)
    | st.builds(Say, st.just("stdout"), texts, st.just("F:platform"))
    | st.builds(Say, st.just("stderr"), long_texts, tags)
    | st.builds(Say, st.just("raw"), st.binary(max_size=600).map(lambda raw: raw.replace(b"\n", b"")), st.just(""))
    | st.sampled_from(["rotate", "compress", "crash", "collect", "collect", "lose the checkpoint"])
    | st.sampled_from(["start", "breathe"])
    | st.builds(Fail, st.integers(0, 4), st.booleans())
    | st.builds(Kill, st.integers(0, 4), st.integers(0, 4)),
    max_size=25,
)


class Script:
    """Does the steps, and knows what was said."""

    def __init__(self, node: Node, bus: MemoryBus) -> None:
        self.said: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        self._open: dict[str, bytes] = {}
        self._node = node
        self._bus = bus
        self._log: Container = node.container()
        self._plain: list[Path] = []
        self._stack = AsyncExitStack()
        self._source: FilesSource | None = None

    async def do(self, step: Say | Fail | Kill | str) -> None:
        match step:
            case Say():
                self._say(step)
            case Fail():
                self._bus.fail_at = {self._bus.appends + step.after: step.kept}
            case Kill():
                await self.stop()
                await self._kill(step)
            case "rotate":
                self._plain.append(self._log.rotate())
            case "compress" if self._plain:
                compress(self._plain.pop(0))
            case "crash":
                for stream, text in self._open.items():
                    self.said[stream, "app"].append(text)
                self._open.clear()
                self._log.crash()
                self._log.write(b"again")
                self.said["stdout", "app"].append(b"again")
            case "start" if self._source is None:
                self._source = await self._stack.enter_async_context(self._node.collecting())
            case "breathe":
                # Where a step falls into what the source does is up to the machine: any place must do.
                await asyncio.sleep(0.002)
            case "lose the checkpoint" if self._source is None:
                (self._node.settings.data / "checkpoint").unlink(missing_ok=True)
            case "collect" if self._source is not None:
                await self._source.drained()
            case "collect":
                await self._node.collect()

    async def stop(self) -> None:
        await self._stack.aclose()
        self._source = None

    def _say(self, step: Say) -> None:
        if step.stream == "raw":
            if cri.read_part(step.text) is None:
                self._log.raw(step.text + b"\n")
                self.said["stdout", "app"].append(step.text)
            return
        self._log.write(step.text, stream=step.stream, tag=step.tag)
        if step.tag == "F:platform":
            self.said[step.stream, "platform"].append(step.text)
        elif step.tag == "P":
            self._open[step.stream] = self._open.get(step.stream, b"") + step.text
        else:
            self.said[step.stream, "app"].append(self._open.pop(step.stream, b"") + step.text)

    async def _kill(self, kill: Kill) -> None:
        self._bus.goal = self._bus.appends + kill.after
        self._bus.reached.clear()
        async with self._node.collecting(kill=True) as source:
            waits = [asyncio.create_task(source.drained()), asyncio.create_task(self._bus.reached.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            for _ in range(kill.longer):
                await asyncio.sleep(0)
        self._bus.goal = -1

    def got(self) -> dict[tuple[str, str], list[bytes]]:
        out: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        held: dict[tuple[str, str, str], bytes] = {}
        for chunk in self._bus.chunks():
            for line in cri.lines(chunk.value):
                _, stream, partial, text = cri.parse(line)
                key = stream.decode(), chunk.stream.source
                # Garbage may come to lie inside of a line that was cut; it has no part in it.
                text = held.pop((*key, chunk.stream.incarnation), b"") + text
                if partial:
                    held[*key, chunk.stream.incarnation] = text
                else:
                    out[key].append(text)
        return out


async def play(todo: list[Say | Fail | Kill | str]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_limits():
        bus = MemoryBus()
        node = Node(Path(folder), bus)
        script = Script(node, bus)
        try:
            for step in todo:
                await script.do(step)
            bus.fail_at.clear()
            await script.stop()
            await node.collect()
        finally:
            await script.stop()
            node.close()
        assert script.got() == {key: texts for key, texts in script.said.items() if texts}
        assert node.notices() == []


IN_A_FILE_WITHOUT_CHUNKS: list[Say | Fail | Kill | str] = [
    Say("stdout", b"", "P"),
    "rotate",
    Say("stdout", b"", "F:platform"),
    Kill(0, 0),
]
"""The part of a line is all that there is of a file, and what is behind it is sent."""


@settings(deadline=None, max_examples=60)
@given(steps)
@example(IN_A_FILE_WITHOUT_CHUNKS)
def test_every_line_once_whatever_happens(todo: list[Say | Fail | Kill | str]) -> None:
    asyncio.run(play(todo))
