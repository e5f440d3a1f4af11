"""Which folders are read: found when they are made, let go of when they are deleted, and no link is followed."""

import asyncio
import errno
import os

import pytest

from logsvc.errors import ConfigError
from logsvc.sources.kubernetes import watch
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from tests.sources.kubernetes.support import Everybody, MemoryBus, Node
from tests.support import cri_line, until


async def test_new_pods_are_found_without_waiting_for_a_rescan(node: Node) -> None:
    async with node.collecting(rescan=3600):
        for number in range(5):
            log = node.container(pod=f"web-{number}", uid=f"u{number}")
            log.write(b"up")
        await until(lambda: node.said() == [b"up"] * 5)


async def test_the_kernel_may_tell_of_a_deleted_folder_when_its_container_is_done(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = node.container(), node.container(pod="web-2", uid="u2")
    async with node.collecting() as source:
        log.write(b"one")
        await source.drained()
        watcher = source._watcher
        dispatch, late = watcher.dispatch, asyncio.Event()
        told: list[bool] = []
        monkeypatch.setattr(watcher, "dispatch", lambda: late.is_set() and (told.append(dispatch()) or told[-1]))
        log.write(b"two")
        log.delete()
        await until(lambda: ("acme_web-1_u1", "web") not in source.lanes, what="the deleted container is let go of")
        late.set()
        await until(lambda: told and not told[-1], what="the kernel has told all")
        other.write(b"three")
        await until(lambda: node.said() == [b"one", b"two", b"three"])
    assert node.notices() == []


@pytest.mark.parametrize(
    ("refused", "error", "limit"),
    [("add_watch", errno.ENOSPC, "max_user_watches"), ("init", errno.EMFILE, "max_user_instances")],
)
async def test_files_that_the_kernel_cannot_watch_are_polled_and_that_is_said(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: str, error: int, limit: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(watch, refused, refuse)
    log = node.container()
    async with node.collecting(idle_after=0.001) as source:
        log.write(b"one")
        await source.drained()
        await until(lambda: not source._active)
        log.write(b"two")
        log.rotate()
        log.write(b"three")
        node.container(pod="web-2", uid="u2").write(b"another pod")
        await until(lambda: len(node.said()) == 4)
        assert [text for text in node.said() if text != b"another pod"] == [b"one", b"two", b"three"]
        assert source.state.watch_problem is not None
        assert limit in source.state.watch_problem
    assert caplog.text.count(limit) == 1


async def test_links_out_of_the_folder_are_refused(node: Node, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "0.log").write_bytes(cri_line(1, "stdout", b"secret"))
    log = node.container()
    (log.folder / "1.log").symlink_to(secret / "0.log")
    (log.folder.parent / "linked").symlink_to(secret)
    (node.root / "acme_linked_u9").symlink_to(log.folder.parent)
    os.mkfifo(log.folder / "2.log")
    log.write(b"mine")
    await node.collect()
    assert node.said() == [b"mine"]
    for name in ("web/1.log", "web/2.log", "linked", "acme_linked_u9"):
        assert name in caplog.text


async def test_a_second_folder_with_a_pods_uid_is_refused_until_the_first_one_is_gone(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = node.container(pod="web-1", uid="u1"), node.container(pod="web-2", uid="u1")
    first.write(b"a1")
    second.write(b"b1")
    async with node.collecting(rescan=0.02) as source:
        await source.drained()
    async with node.collecting(rescan=0.02) as source:
        await source.drained()
        assert node.said() == [b"a1"]
        first.delete()
        await until(lambda: node.said() == [b"a1", b"b1"])
    await node.collect()
    assert node.said() == [b"a1", b"b1"]
    assert "acme_web-2_u1 has the uid of acme_web-1_u1 and is not read" in caplog.text


async def test_a_folder_that_is_not_there_is_an_error_in_plain_words(tmp_path) -> None:
    settings = FilesSettings(tmp_path / "nowhere", tmp_path / "data", "node-1")
    with pytest.raises(ConfigError, match="nowhere can't be used: No such file or directory"):
        await FilesSource(settings, MemoryBus(), Everybody()).run()
