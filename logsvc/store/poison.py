"""Inserts that get a batch into the store whatever is in it.

A store that is away or unwell is waited for. A batch that it refuses is halved until what it refuses is one chunk;
the rest goes in. That one is tried again, with growing pauses; where the store takes a line of ours each time that it
refuses the chunk, the chunk is to blame, not the store. Then it is set aside (on a topic of its own, with the reason),
and a notice takes its place in the timeline. So no chunk can stop the others, and a sick store loses none.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from logsvc import metrics
from logsvc.errors import BusError, StoreAway, StoreError
from logsvc.formats import cri
from logsvc.model import Chunk, Stream, notices_of
from logsvc.purges import Purges
from logsvc.store.engine import Unwell
from logsvc.store.protocol import StoreWriter

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 15.0
"""Seconds between tries; each is twice the one before."""

TRIES: Final = 7
"""How often a chunk is refused until it is set aside: over 16 seconds, so that a store short of memory can recover."""

PROBE: Final = Chunk(
    epoch=0,
    partition=0,
    offset=0,
    appended=0,
    stream=Stream("", "", "probe", "probe", "platform", ""),
    value=b"1970-01-01T00:00:00Z stdout F a store that takes this line is well\n",
)
"""A line of an app that nobody can have, always at the same place: however often it is inserted, it is one row."""

SetAside = Callable[[Chunk, str], Awaitable[None]]
"""Keeps a chunk, with the reason, somewhere durable; may be called twice for one. Raises BusError."""


class Refused(NamedTuple):
    """A chunk that the store refuses while it takes others, and why."""

    chunk: Chunk
    reason: str


class Inserter:
    """Inserts batches. Cancelling is safe: a batch may be inserted again."""

    def __init__(
        self,
        store: StoreWriter,
        *,
        pause: Callable[[float], Awaitable[None]],
        note: Callable[[Exception | None], None],
        set_aside: SetAside | None = None,
        purges: Purges | None = None,
    ) -> None:
        """`note` is told how each try went. Without `set_aside` a chunk that is refused is tried for ever.

        What `purges` has removed, also while it was waiting here, is left out.
        """
        self._store = store
        self._pause = pause
        self._note = note
        self._set_aside = set_aside
        self._purges = purges or Purges()

    async def insert(self, chunks: Sequence[Chunk]) -> None:
        """Returns when every chunk is stored, or set aside."""
        refused = await self._offer([list(chunks)])
        pause = FIRST_PAUSE
        for _ in range(TRIES - 1):
            if not refused:
                return
            await self._pause(pause)
            pause *= 2
            refused = await self._offer([[each.chunk] for each in refused])
        for each in refused:
            if self._purges.keep([each.chunk]):
                await self._put_aside(each)

    async def _offer(self, pieces: list[list[Chunk]]) -> list[Refused]:
        """Insert what the store takes, waiting for as long as it is not well. Returns the chunks to blame."""
        refused = []
        pause = FIRST_PAUSE
        while pieces:
            piece = pieces[0]
            error = await self._try(piece)
            if error is None:
                pieces = pieces[1:]
                pause = FIRST_PAUSE
            elif len(piece) > 1 and not isinstance(error, StoreAway | Unwell):
                half = len(piece) // 2
                pieces = [piece[:half], piece[half:], *pieces[1:]]
            elif await self._is_to_blame(error):
                refused.append(Refused(piece[0], str(error)))
                pieces = pieces[1:]
            else:
                await self._pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        return refused

    async def _try(self, chunks: Sequence[Chunk]) -> StoreError | None:
        try:
            with metrics.store_insert_seconds.time():
                await self._store.insert(self._purges.keep(chunks))
        except StoreError as error:
            metrics.store_errors.labels("insert").inc()
            self._note(error)
            return error
        self._note(None)
        return None

    async def _is_to_blame(self, error: StoreError) -> bool:
        """Whether the chunk is, of which this error came, because the store takes another."""
        if isinstance(error, StoreAway | Unwell) or self._set_aside is None:
            return False
        try:
            await self._store.insert([PROBE])
        except StoreError:
            return False
        return True

    async def _put_aside(self, refused: Refused) -> None:
        assert self._set_aside is not None
        pause = FIRST_PAUSE
        while True:
            try:
                await self._set_aside(*refused)
            except BusError as error:
                self._note(error)
                await self._pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                break
        chunk = refused.chunk
        metrics.store_set_aside.inc()
        logger.error(
            "a chunk of partition %d at offset %d was set aside: %s", chunk.partition, chunk.offset, refused.reason
        )
        if await self._offer([[notice_of(refused)]]):
            logger.error("the store refuses the notice of it as well: in history nothing tells of the gap")
        self._note(None)


def notice_of(refused: Refused) -> Chunk:
    """A line at the chunk's place that tells of it. Follows from the record and the reason alone."""
    chunk = refused.chunk
    count = chunk.value.count(b"\n")
    text = f"{count} line{'s'[: count != 1]} can't be kept here and {'were' if count != 1 else 'was'} set aside"
    return Chunk(
        epoch=chunk.epoch,
        partition=chunk.partition,
        offset=chunk.offset,
        appended=chunk.appended,
        stream=notices_of(chunk.stream.app_id, chunk.stream.retention),
        value=cri.format_line(
            cri.format_time(chunk.appended * 1_000_000), b"stdout", f"{text}: {refused.reason}".encode()
        ),
    )
