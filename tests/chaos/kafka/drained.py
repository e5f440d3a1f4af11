"""What the receiver of the drains gets: judged as it comes, app by app, and not kept."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b

from tests.chaos.readers import Live, Seen
from tests.support import drain_formats
from tests.support.receiver import Frame, Receiver


class Drained(Live):
    """The lines of one app, by the first receipt of each frame."""

    def __init__(self, app: str, *, ordered: bool) -> None:
        super().__init__(Seen())
        self.app, self.ordered = app, ordered
        self.repeated = 0
        """Frames that came again, the same under the same id."""
        self.wrong: list[str] = []
        self._frames: dict[str, bytes] = {}

    @property
    def told(self) -> str:
        return f"drain of {self.app}, {self.behind:.0f} s behind, {len(self._frames)} frames"

    def take(self, frame: Frame) -> None:
        digest = blake2b(frame.body, digest_size=16).digest()
        known = self._frames.setdefault(frame.id, digest)
        if known is not digest:
            self.repeated += 1
            if known != digest:
                self.wrong.append(f"frame {frame.id} is another one the second time")
            return
        try:
            messages = drain_formats.logplex(frame.body)
        except AssertionError as error:
            self.wrong.append(f"frame {frame.id}: {error}")
            return
        for message in messages:
            self.seen.line(message.text, frame.id, message.time.decode())

    def complete(self, written: dict[str, int]) -> bool:
        """Whether the last line came; each, where they come in any order."""
        tally = self.seen.tally
        return tally.complete(written) and (self.ordered or not tally.gaps)


class DrainReceiver(Receiver):
    """Of several apps, each of which posts to a path of its name."""

    def __init__(self, apps: Sequence[str], unordered: str) -> None:
        """`unordered`: the one of them whose order is waived."""
        super().__init__()
        self.drained = {app: Drained(app, ordered=app != unordered) for app in apps}

    def take(self, frame: Frame) -> None:
        """Keep nothing but what was counted."""
        self.drained[frame.path.strip("/")].take(frame)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Listens for the block, in a thread of its own.

        Tails that catch up keep the test's event loop busy for seconds at a time, and an answer that is late is none.
        """
        listens: Future[Callable[[], object]] = Future()

        async def listen() -> None:
            loop, over = asyncio.get_running_loop(), asyncio.Event()
            async with self.listening():
                listens.set_result(lambda: loop.call_soon_threadsafe(over.set))
                await over.wait()

        with ThreadPoolExecutor(1) as thread:
            listening = thread.submit(asyncio.run, listen())
            end = listens.result(10)
            try:
                yield
            finally:
                end()
                listening.result()
