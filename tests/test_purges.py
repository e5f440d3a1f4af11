"""What was removed for good stays away, and what came later doesn't."""

from logsvc.model import AppId, Chunk, Cursor, Stream
from logsvc.purges import Purge, Purges

APP, OTHER = AppId("acme", "shop"), AppId("acme", "other")


def chunk(app: AppId, offset: int, epoch: int = 1) -> Chunk:
    return Chunk(epoch, 0, offset, 0, Stream(*app, "web", "web.1", "app", "i"), b"")


def purge(offset: int, epoch: int = 1) -> Purge:
    return Purge(APP, Cursor(epoch, 0, offset, -1), at=1000 * epoch + offset)


def test_chunks_in_front_of_the_place_go_and_the_others_stay() -> None:
    purges = Purges()
    chunks = [chunk(APP, 0), chunk(OTHER, 1), chunk(APP, 4), chunk(APP, 5), chunk(APP, 0, epoch=2)]
    assert purges.keep(chunks) is chunks
    assert purges.place(APP) is None
    purges.add(purge(5))
    assert purges.keep(chunks) == [chunks[1], *chunks[3:]]
    assert purges.place(APP) == Cursor(1, 0, 5, -1)
    purges.add(purge(0, epoch=2))
    assert purges.keep(chunks) == [chunks[1], chunks[4]]


def test_an_older_purge_says_nothing_new() -> None:
    purges = Purges()
    heard: list[Purge] = []
    purges.follow(heard.append)
    assert [purges.add(purge(offset)) for offset in (5, 5, 3, 7)] == [True, False, False, True]
    assert heard == [purge(5), purge(7)]
    assert purges.since(0) == [purge(7)]
    assert purges.since(purge(7).at + 1) == []
