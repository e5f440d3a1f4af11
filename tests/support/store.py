"""Chunks for a store, and what a page of one says, line by line."""

from itertools import count
from typing import Any

from logsvc.errors import StoreAway
from logsvc.model import AppId, Chunk, Cursor, Stream
from logsvc.store.protocol import Page, Store

APPENDED = 1_795_399_200_000
"""2026-11-23T02:00:00Z in Unix ms: when the bus took the first chunk of a test."""

END = Cursor(1, 0, 1 << 50, 0)
"""Behind all lines of epoch 1, partition 0."""

_apps = count()


def new_app() -> AppId:
    """An app that no other test has seen."""
    number = next(_apps)
    return AppId(f"tenant-{number}", f"app-{number}")


def stream_of(app: AppId, process: str = "web", source: str = "app", retention: int = 0) -> Stream:
    stream = Stream(app.tenant, app.app, process, f"{process}.1", source, "uid/0", retention)
    return Stream.of(stream.key())


def chunk_of(
    stream: Stream,
    offset: int,
    *messages: bytes,
    stamp: bytes = b"2026-11-23T02:00:00.000000000Z",
    epoch: int = 1,
    partition: int = 0,
    appended: int = APPENDED,
    origin: bytes = b"",
) -> Chunk:
    """A chunk of stdout lines, all of one time."""
    value = b"".join(b"%b stdout F %b\n" % (stamp, message) for message in messages)
    return Chunk(epoch, partition, offset, appended, stream, value, origin)


def lines_of(page: Page) -> list[tuple[Cursor, bytes]]:
    """Each line with its cursor, in the order of the page."""
    found = []
    for chunk in page.chunks:
        texts = chunk.value[:-1].split(b"\n")
        assert len(texts) == len(chunk.numbers)
        found += [(chunk.cursor(number), text) for number, text in zip(chunk.numbers, texts, strict=True)]
    return found


def messages_of(page: Page) -> list[bytes]:
    """The message of each line, in the order of the page."""
    return [text.split(b" ", 3)[3] for _, text in lines_of(page)]


class Away:
    """The real store, which can't be reached while `away` is set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        if self.away:
            self.tries += 1
            raise StoreAway("the store can't be reached")
        return getattr(self._store, name)
