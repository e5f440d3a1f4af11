"""Logs by the API server: each line once, whatever breaks off, and a notice where lines can't be had any more."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from logsvc.model import AppId
from logsvc.sources.checkpoint import Checkpoint
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes import containerlog
from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.apisource import ApiSource
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.redaction import Redact
from tests.sources.kubernetes.flakyserver import Log, flaky_server
from tests.sources.kubernetes.support import TIME, MemoryBus, messages, timeless
from tests.sources.kubernetes.test_pods import LABELS, Cluster
from tests.support import until

SHOP = AppId("acme", "shop")
HOUR = 3_600_000_000_000


class Following:
    """A cluster of one pod or two, and what comes to the bus of them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.bus = MemoryBus()
        self.quota: Quota | None = None
        self.redact: Redact | None = None
        self._folder = folder
        self._now = datetime.now(UTC).isoformat()

    def begin(self, run: int = 0, uid: str = "u1", **given: Any) -> Log:
        """A run of the container has begun."""
        log = self.cluster.server.logs[uid, "main", run] = Log()
        self._put(run, uid, {"running": {"startedAt": self._now}}, **given)
        return log

    async def taken(self) -> Log:
        """A log whose first line was taken, and which nobody follows now."""
        log = self.begin()
        log.write(b"first")
        async with self.followed():
            await self.comes(b"first")
        return log

    def end(self, run: int = 0, uid: str = "u1", **given: Any) -> None:
        """It has exited."""
        self.cluster.server.logs[uid, "main", run].end()
        self._put(run, uid, {"terminated": self._exited()}, **given)

    def _put(self, run: int, uid: str, state: dict[str, Any], **given: Any) -> None:
        main = {"name": "main", "image": "shop:42", "restartCount": run, "state": state}
        if run:
            main["lastState"] = {"terminated": self._exited()}
        self.cluster.pod(
            uid=uid, labels=LABELS, status={"phase": "Running", "conditions": [], "containerStatuses": [main]}, **given
        )

    def _exited(self) -> dict[str, Any]:
        return {"exitCode": 1, "startedAt": self._now, "finishedAt": self._now, "reason": "Error"}

    @asynccontextmanager
    async def followed(self, *, kill: bool = False) -> AsyncIterator[ApiSource]:
        """Followed for the block; then stopped, or killed in the middle of whatever is done."""
        token = self._folder / "token"
        checkpoint = Checkpoint(self._folder / "checkpoint", "cluster")
        async with (
            ApiServer.open(ApiSettings(self.cluster.server.url, None, token)) as api,
            self.cluster.watched() as identity,
        ):
            collector = Collector(self.bus, "cluster", checkpoint, redact=self.redact)
            source = ApiSource(api, identity, collector, 1000.0, self.quota)
            identity.listeners = [source.identities_changed]
            running = asyncio.create_task(source.run())
            try:
                yield source
            finally:
                if kill:
                    source.collector._checkpoint.save = lambda _: None
                    running.cancel()
                else:
                    source.stop()
                await asyncio.wait([running])
            assert kill or running.exception() is None

    def said(self, *, notices: bool = False) -> list[bytes]:
        return messages(self.bus.chunks(SHOP), notices=notices)

    async def are(self, lines: int) -> None:
        await until(lambda: len(self.said()) >= lines, 60, what=f"{lines} lines, not {len(self.said())}")

    async def comes(self, *said: bytes) -> None:
        await until(lambda: self.said()[-len(said) :] == [*said], what=f"{said} to come, behind {self.said()[-5:]}")


@pytest.fixture
async def following(tmp_path: Path) -> AsyncIterator[Following]:
    async with flaky_server() as server:
        yield Following(Cluster(server, tmp_path), tmp_path)


async def test_lines_come_as_they_are_written(following: Following) -> None:
    log = following.begin()
    log.write(b"before")
    async with following.followed():
        await following.comes(b"before")
        log.write(b"one", b"")
        await following.comes(b"one", b"")
        log.write(b"two")
        following.end()
        await following.comes(b"two")
    (stream,) = {chunk.stream for chunk in following.bus.chunks(SHOP)}
    assert (stream.process, stream.dyno, stream.incarnation) == ("web", "web-1", "u1/main/0")


@pytest.mark.parametrize("seed", range(5))
async def test_what_breaks_off_is_gone_on_with(following: Following, seed: int) -> None:
    chance = random.Random(seed)
    log = following.begin()
    written: list[bytes] = []
    following.cluster.server.cuts = [chance.randrange(5_000) for _ in range(5)]
    following.bus.fail_at = {chance.randrange(1, 40): chance.random() < 0.5 for _ in range(3)}
    for _ in range(4):
        async with following.followed(kill=chance.random() < 0.5):
            for _ in range(5):
                said = [b"line %d" % (len(written) + number) for number in range(chance.randrange(1, 60))]
                written += said
                log.time += chance.choice([0, 0, HOUR, -HOUR])
                log.write(*said, step=chance.choice([0, 1000, 300_000_000]))
                await following.are(chance.randrange(len(written)))
    async with following.followed():
        await following.are(len(written))
    assert following.said() == written
    assert following.said(notices=True) == []


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 4_000_000 * HOUR])
async def test_a_clock_that_jumps_while_nobody_looks_and_is_set_right_again_costs_nothing(
    following: Following, jump: int
) -> None:
    log = following.begin()
    log.write(*(b"before %d" % number for number in range(300)))
    async with following.followed(kill=True):
        await following.are(300)
    log.time += jump
    log.write(b"wrong")
    async with following.followed(kill=True):
        await following.comes(b"wrong")
    log.time -= jump
    log.write(*(b"right %d" % number for number in range(5000)))
    async with following.followed():
        await following.are(5301)
        log.write(b"still right")
        await following.comes(b"still right")
        log.time += jump
        log.write(b"wrong again")
        log.end()
        following.end()
        await following.comes(b"wrong again")
    assert following.said()[299:302] == [b"before 299", b"wrong", b"right 0"]
    assert len(following.said()) == 5303
    assert following.said(notices=True) == []


async def test_a_process_that_is_started_again_is_read_to_its_end_first(following: Following) -> None:
    log = following.begin()
    log.write(b"first")
    async with following.followed(kill=True):
        await following.comes(b"first")
    log.write(b"last words")
    log.end()
    following.begin(1).write(b"second")
    async with following.followed():
        await following.comes(b"last words", b"second")
    assert following.said() == [b"first", b"last words", b"second"]
    incarnations = [chunk.stream.incarnation for chunk in following.bus.chunks(SHOP)]
    assert incarnations == ["u1/main/0", "u1/main/0", "u1/main/1"]
    assert following.said(notices=True) == []


async def test_runs_that_nobody_has_the_logs_of_are_told(following: Following) -> None:
    following.begin().write(b"first")
    async with following.followed():
        await following.comes(b"first")
    following.begin(3).write(b"third")
    following.begin(4).write(b"fourth")
    async with following.followed():
        await following.comes(b"third", b"fourth")
    (notice,) = following.said(notices=True)
    lost = (
        b"web-1: Lines of between T1 and T2, of 3 earlier runs of the process, were lost: it was started again before"
    )
    assert timeless(notice) == lost + b" they were read"
    assert b" of between 2026-11-23T02:00:00.001000000Z and " in notice


async def test_a_log_that_was_rotated_meanwhile_is_told_with_the_times(following: Following) -> None:
    log = await following.taken()
    log.write(b"lost")
    log.rotate()
    log.write(b"third")
    async with following.followed():
        await following.comes(b"third")
        log.write(b"fourth")
        await following.comes(b"third", b"fourth")
    assert following.said() == [b"first", b"third", b"fourth"]
    (notice,) = following.said(notices=True)
    times = b"2026-11-23T02:00:00.001000000Z and 2026-11-23T02:00:00.003000000Z"
    assert notice == b"web-1: Lines of between %b may be missing: the log was rotated meanwhile" % times


async def test_a_log_that_is_rotated_while_it_is_followed_is_told_with_the_times(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerlog, "_LOOK_BYTES", 1)
    monkeypatch.setattr(containerlog, "_LOOK_SECONDS", 0.0)
    log = following.begin()
    log.write(b"first")
    async with following.followed():
        await following.comes(b"first")
        for number in range(10):
            log.write(b"line %d" % number)
            await following.comes(b"line %d" % number)
        assert following.said(notices=True) == []
        log.write(b"lost")
        log.rotate()
        log.write(b"third")
        await following.comes(b"third")
        await until(lambda: following.said(notices=True))
        log.write(b"fourth")
        await following.comes(b"fourth")
    (notice,) = following.said(notices=True)
    assert timeless(notice) == b"web-1: Lines of between T1 and T2 may be missing: the log was rotated meanwhile"
    begin, end = TIME.findall(notice)
    assert begin <= b"2026-11-23T02:00:00.011000000Z"
    assert end == b"2026-11-23T02:00:00.013000000Z"


async def test_a_rotation_just_before_a_kill_or_the_end_is_told_as_well(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerlog, "_LOOK_SECONDS", 0.0)
    log = following.begin()
    log.write(b"first")
    async with following.followed(kill=True):
        await following.comes(b"first")
        log.rotate()
        log.write(b"second")
        await following.comes(b"second")
        assert following.said(notices=True) == []
    async with following.followed():
        log.write(b"third")
        await following.comes(b"third")
        log.rotate()
        log.write(b"fourth")
        await following.comes(b"fourth")
        following.end()
        await until(lambda: b"2026-11-23T02:00:00.004000000Z" in TIME.findall(b"".join(following.said(notices=True))))
    assert TIME.findall(following.said(notices=True)[0])[0] == b"2026-11-23T02:00:00.001000000Z"


@pytest.mark.parametrize("kill", [False, True])
async def test_a_log_that_was_rotated_and_is_empty_is_told_once_and_before_there_is_another_line(
    following: Following, kill: bool
) -> None:
    log = await following.taken()
    log.write(b"lost")
    log.rotate()
    for _ in range(2):
        followed = asyncio.Event()
        following.cluster.server.when_asked = lambda query, at=followed: at.set() if query["follow"] == "true" else None
        async with following.followed(kill=kill):
            await followed.wait()
            await until(lambda: following.said(notices=True))
    (told,) = following.said(notices=True)
    assert timeless(told) == b"web-1: Lines of between T1 and T2 may be missing: the log was rotated meanwhile"
    async with following.followed():
        log.write(b"third")
        await following.comes(b"third")
    assert following.said() == [b"first", b"third"]
    first, second = map(TIME.findall, following.said(notices=True))
    assert first[0] == second[0] == b"2026-11-23T02:00:00.001000000Z"
    assert second[1] == b"2026-11-23T02:00:00.003000000Z"


async def test_a_rotation_between_two_requests_is_told_though_nothing_comes_any_more(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerlog, "_SILENT", 0.1)
    log = await following.taken()
    following.cluster.server.when_asked = lambda query: log.rotate() if query["follow"] == "true" else None
    async with following.followed():
        await until(lambda: following.said(notices=True))


async def test_a_rotation_that_the_kubelet_has_overlooked_is_gone_on_behind(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does where it is behind when it happens, and then gives nothing any more."""
    monkeypatch.setattr(containerlog, "_SILENT", 0.1)
    monkeypatch.setattr(containerlog, "_SOME_BYTES", 1)
    log = following.begin()
    log.write(b"first")
    async with following.followed():
        await following.comes(b"first")
        log.overlooked = True
        log.rotate()
        log.write(b"third")
        await following.comes(b"third")
        log.write(b"fourth")
        await following.comes(b"fourth")
    assert following.said() == [b"first", b"third", b"fourth"]


async def test_a_log_that_is_quiet_is_looked_at_once_where_much_came(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerlog, "_SILENT", 0.02)
    following.begin()
    following.begin(uid="u2", name="web-2").write(b"a few words")
    following.begin(uid="u3", name="web-3").write(b"x" * 20_000, b"last")
    looks: Counter[str] = Counter()

    def count(query: Mapping[str, str]) -> None:
        looks["look" if "limitBytes" in query else query["follow"]] += 1

    following.cluster.server.when_asked = count
    async with following.followed():
        await until(lambda: b"last" in following.said() and looks["look"])
        await asyncio.sleep(0.5)  # what must not happen has some time for it
    assert looks == {"look": 1, "true": 3}
    assert following.said(notices=True) == []


@pytest.mark.parametrize("written", [[], [b"fourth"]])
async def test_a_rotation_while_it_is_looked_for_what_is_new_is_told(
    following: Following, written: list[bytes]
) -> None:
    """A file is found that begins behind the last line, and is gone when it is to be read."""
    log = await following.taken()
    log.rotate()
    log.write(b"third")

    asked = 0

    def rotate_again(query: Mapping[str, str]) -> None:
        nonlocal asked
        asked += not {"tailLines", "limitBytes"} & set(query)
        if asked == 2:
            log.rotate()
            log.write(*written)

    following.cluster.server.when_asked = rotate_again
    async with following.followed():
        await until(lambda: len(following.said(notices=True)) == 2)
        await following.comes(b"first", *written)


async def test_a_log_that_is_rotated_again_and_again_is_found_again_while_it_is_written(following: Following) -> None:
    log = await following.taken()
    log.rotate()
    log.write(b"second")
    async with asyncio.TaskGroup() as tasks, following.followed():

        async def flood() -> None:
            while b"second" not in following.said():
                log.write(*[b"more"] * 100)
                await asyncio.sleep(0.01)  # it is the writer's pace, and no wait

        tasks.create_task(flood())
        await until(lambda: b"second" in following.said())
    assert len(following.said(notices=True)) == 1


async def test_a_pod_that_was_gone_before_its_log_was_read_is_told(following: Following) -> None:
    following.cluster.server.refused["get", "pods/log"] = 503
    async with following.followed() as source:
        following.begin().write(b"nobody sees that")
        await until(lambda: following.cluster.server.count("get", "pods/log"))
        following.cluster.server.delete("pods", "u1")
        await until(lambda: following.said(notices=True))
        assert [timeless(notice) for notice in following.said(notices=True)] == [
            b"web-1: Lines of between T1 and T2 were lost: the log of the process could not be had any more"
        ]
        await until(lambda: not source.logs and not source.collector.positions)


UNABLE = b"unable to retrieve container logs for containerd://d00d"
"""What a kubelet says, with status 200 and where lines would be, of a container that it has removed."""


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("given", [[UNABLE], []])
async def test_what_the_kubelet_has_no_more_of_a_run_is_told(
    following: Following, taken: bool, given: list[bytes]
) -> None:
    """But not of a run that may have written nothing."""
    log = following.begin()
    if taken:
        log.write(b"first")
        async with following.followed(kill=True):
            await following.comes(b"first")
    log.lines = given
    following.end()
    async with following.followed() as source:
        await until(lambda: source.logs and all(log.read == 1 for log in source.logs.values()))
    lost = b"web-1: Lines of between T1 and T2 were lost: the log of the process could not be had any more"
    assert [timeless(notice) for notice in following.said(notices=True)] == ([lost] if taken or given else [])
    assert following.said() == ([b"first"] if taken else [])


async def test_an_answer_that_does_not_end_with_its_pod_is_let_go(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server may hold on to one that nobody writes to any more."""
    monkeypatch.setattr(containerlog, "_SILENT", 0.1)
    log = following.begin()
    log.write(b"first")
    async with following.followed() as source:
        await following.comes(b"first")
        following.cluster.server.delete("pods", "u1")
        await until(lambda: not source.logs, what="the log to be let go")
    assert [timeless(notice) for notice in following.said(notices=True)] == [
        b"web-1: Lines of between T1 and T2 were lost: the log of the process could not be had any more"
    ]


async def test_who_is_over_its_quota_is_read_more_slowly_and_nobody_else_is(following: Following) -> None:
    rates = {"small": 1.0}
    following.quota = Quota(rates, plan=lambda tenant: "small" if tenant == "acme" else "")
    following.cluster.namespace("other")
    flood, quiet = following.begin(), following.begin(uid="u2", name="web-2", namespace="other")
    async with following.followed() as source:
        flood.write(*(b"%d %b" % (number, b"x" * 1000) for number in range(2000)))
        await until(lambda: any(log.over_quota for log in source.logs.values()))
        for number in range(10):
            quiet.write(b"line %d" % number)
        others = AppId("other", "shop")
        await until(lambda: len(messages(following.bus.chunks(others))) == 10)
        assert 0 < len(following.said()) < 2000
        rates["small"] = 1e12
        await following.are(2000)
        assert not any(log.over_quota for log in source.logs.values())
    assert [int(text.split()[0]) for text in following.said()] == [*range(2000)]


async def test_a_pod_of_the_same_name_is_another(following: Following) -> None:
    log = following.begin()
    log.write(b"of the first")
    async with following.followed():
        await following.comes(b"of the first")
        log.end()
        following.cluster.server.delete("pods", "u1")
        following.begin(uid="u2").write(b"of the second")
        await following.comes(b"of the second")
    assert [chunk.stream.incarnation for chunk in following.bus.chunks(SHOP)] == ["u1/main/0", "u2/main/0"]
    assert following.said(notices=True) == []


async def test_the_pod_that_a_kubelet_shows_for_one_of_its_own_is_followed(following: Following) -> None:
    log = following.begin(annotations={"kubernetes.io/config.mirror": "0123456789abcdef"})
    log.write(b"hello")
    async with following.followed():
        await following.comes(b"hello")
    (stream,) = {chunk.stream for chunk in following.bus.chunks(SHOP)}
    assert stream.incarnation == "0123456789abcdef/main/0"


async def test_a_missing_right_is_named_and_logs_come_when_it_is_granted(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.cluster.server.refused["get", "pods/log"] = 403
    following.begin().write(b"hello")
    async with following.followed():
        await until(lambda: '{apiGroups: [""], resources: ["pods/log"], verbs: ["get"]}' in caplog.text)
        del following.cluster.server.refused["get", "pods/log"]
        await following.comes(b"hello")
