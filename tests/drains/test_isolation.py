"""Drains that are slow, fail or catch up, and the others of the same process, which don't notice."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from logsvc.drains.delivery import CROWD
from logsvc.store.protocol import Store
from tests.drains.desk import Desk, desk
from tests.support import until
from tests.support.certificates import serving
from tests.support.receiver import Frame, Receiver, Verdict, answer, hang

OF_A_KIND = 10


class Paths(Receiver):
    """A receiver of several drains, told apart by the paths that they post to."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts: defaultdict[str, Verdict] = defaultdict(Verdict)

    def take(self, frame: Frame) -> None:
        self.all.append(frame)
        self.verdicts[frame.path].feed(frame)

    def has_all(self, path: str, lines: int) -> bool:
        return self.verdicts[path].tally.complete({"w": lines})


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_of_many_drains_those_that_hang_fail_or_are_slow_delay_no_other(
    store: Store, tmp_path: Path, certificates: tuple[Path, Path], *, tls: bool
) -> None:
    """The others have everything while not one frame of those is taken; later those get every line too."""
    over = asyncio.Event()

    async def slowly(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response(status=204)

    ways: dict[str, Any] = {"hang": hang, "fail": answer(500), "slow": slowly, "good": answer()}

    def behave(request: web.Request) -> Any:
        return (answer() if over.is_set() else ways[request.path.split("/")[1]])(request)

    paths = [f"/{way}/{number}" for number in range(OF_A_KIND) for way in ways]
    good = [path for path in paths if path.startswith("/good/")]
    ca, certificate = certificates
    async with (
        desk(store, tmp_path, request_timeout=10, ca_file=str(ca)) as working,
        Paths().listening(context=serving(certificate) if tls else None) as receiver,
    ):
        assert isinstance(receiver, Paths)
        receiver.behave = behave
        for path in paths:
            await working.add(receiver.url + path)
        await working.write(10)
        await until(lambda: len(receiver.verdicts) == len(paths), what="every drain to have sent something")
        for _ in range(20):
            await working.write(10)
            for path in good:
                await until(lambda path=path: receiver.has_all(path, working.written), what=f"all lines at {path}")
        for path in set(paths) - set(good):
            assert len(receiver.verdicts[path].frames) == 1, "nothing is sent behind what isn't taken"
        over.set()
        for path in paths:
            await until(lambda path=path: receiver.has_all(path, working.written), what=f"all lines at {path}")
            receiver.verdicts[path].tally.check({"w": working.written})


class Held:
    """The real store, whose pages come when they are let go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.let_go = asyncio.Event()
        self.reading = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def after(self, *asked: Any) -> Any:
        self.reading += 1
        await self.let_go.wait()
        return await self._store.after(*asked)


async def test_drains_that_catch_up_from_the_store_delay_no_other(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, so many read it at once; those at the end go on meanwhile."""
    monkeypatch.setattr("logsvc.legs.NEAR", 0)
    monkeypatch.setattr("logsvc.router.BEFORE", 0)
    held = Held(store)
    async with desk(held, tmp_path) as working, Paths().listening() as receiver:  # type: ignore[arg-type]  # by delegation
        assert isinstance(receiver, Paths)
        late = [f"/late/{number}" for number in range(2 * CROWD)]
        begin = await working.rig.timeline.end()
        await write_stored(working)
        for path in late:
            await working.add(receiver.url + path, start=begin)
        await until(lambda: held.reading == CROWD, what="as many as may to read the store")
        start = working.written
        await working.add(receiver.url + "/now")
        for _ in range(20):
            await working.write(10)
            now = receiver.verdicts["/now"]
            await until(lambda now=now: now.tally.next("w") == working.written, what="the newest lines")
            assert now.tally.lines == working.written - start
        assert held.reading == CROWD
        assert not any(receiver.verdicts[path].frames for path in late)
        held.let_go.set()
        for path in late:
            await until(lambda path=path: receiver.has_all(path, working.written), what=f"all lines at {path}")
            receiver.verdicts[path].tally.check({"w": working.written})


async def write_stored(working: Desk) -> None:
    """Lines that the store alone has: no window begins before they are stored."""
    await working.write(50, chunks=10)
    await working.rig.store_upto(await working.rig.end())
