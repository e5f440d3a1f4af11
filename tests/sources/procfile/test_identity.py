"""Files that an earlier run left are filed as that run would have filed them, and go once they are collected."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.model import Stream
from logsvc.sources.procfile import ProcfileIdentity, prune
from logsvc.sources.procfile.identity import Identity
from tests.sources.procfile.support import Run

UID = "6d1f7c3e-2b9a-4a8e-9a51-0f4b7a3a2c11"


def identity(number: int, run: int) -> Identity:
    uid = f"{UID[:-4]}{number:04x}"
    return Identity(uid, "web-1", "web", "default", "demo", "Web_x", "Web_x.1", retention=2, run=run)


def a_pod(folder: Path, number: int, run: int, logs: tuple[str, ...] = ("0.log",)) -> Identity:
    """A pod's folder and identity, as a run left them."""
    pod = identity(number, run)
    pod.write(folder / "identity")
    container = folder / "pods" / str(pod.folder) / pod.container
    container.mkdir(parents=True)
    for log in logs:
        (container / log).write_bytes(b"2026-11-23T02:00:00Z stdout F a\n")
    return pod


def test_a_restart_of_the_service_knows_whose_a_file_is(tmp_path: Path):
    pod = a_pod(tmp_path, 1, run=1)
    known = ProcfileIdentity(tmp_path / "identity")
    assert known.stream("default", "web-1", pod.uid, "web", 3) == Stream(
        tenant="default",
        app="demo",
        process="Web_x",
        dyno="Web_x.1",
        source="app",
        incarnation=f"{pod.uid}/3",
        retention=2,
    )


async def test_a_running_process_is_known_by_the_folder_it_writes_to(tmp_path: Path):
    run = Run(tmp_path, "release: echo hello; exit 1\nodd_Name: echo")
    assert await run.runner.run() == 1
    for folder in run.pods.iterdir():
        namespace, pod, uid = folder.name.split("_")
        (container,) = folder.iterdir()
        stream = ProcfileIdentity(run.identities).stream(namespace, pod, uid, container.name, 0)
        assert stream is not None
        assert (stream.tenant, stream.app, stream.dyno) in {
            ("default", "demo", "release.1"),
            ("default", "demo", "odd_Name.1"),
        }
    assert len(list(run.pods.iterdir())) == 2


@given(st.text(string.printable, max_size=40), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_a_folder_that_the_runner_did_not_make_is_nobodys(uid, namespace, pod, container):
    assert ProcfileIdentity(Path("/")).stream(namespace, pod, uid, container, 0) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"uid": 1', b"null"])
def test_an_identity_that_cannot_be_read_is_none(tmp_path: Path, content: bytes):
    (tmp_path / f"{UID}.json").write_bytes(content)
    assert ProcfileIdentity(tmp_path).stream("default", "web-1", UID, "web", 0) is None


def test_another_namespaces_folder_with_a_known_uid_is_nobodys(tmp_path: Path):
    pod = a_pod(tmp_path, 1, run=1)
    known = ProcfileIdentity(tmp_path / "identity")
    assert known.stream("other", "web-1", pod.uid, "web", 0) is None
    assert known.stream("default", "web-2", pod.uid, "web", 0) is None
    assert known.stream("default", "web-1", pod.uid, "side", 0) is None


def test_pods_of_earlier_runs_go_once_every_file_is_collected(tmp_path: Path):
    logs = ("0.log", "0.log.20261123-045148.gz", "1.log")
    pods = {run: a_pod(tmp_path, run, run, logs) for run in range(1, 6)}
    behind = tmp_path / "pods" / str(pods[2].folder) / "web" / logs[1]
    removed = prune(tmp_path / "pods", tmp_path / "identity", lambda path: path != behind, keep_runs=2)
    assert sorted(removed) == sorted([pods[1].uid, pods[3].uid])
    left = {path.name for path in (tmp_path / "pods").iterdir()}
    assert left == {str(pods[run].folder) for run in (2, 4, 5)}
    assert {path.stem for path in (tmp_path / "identity").iterdir()} == {pods[run].uid for run in (2, 4, 5)}
    assert prune(tmp_path / "pods", tmp_path / "identity", lambda _: True, keep_runs=2) == [pods[2].uid]


def test_a_prune_that_was_cut_short_is_finished_by_the_next(tmp_path: Path):
    pod = a_pod(tmp_path, 1, run=1)
    (tmp_path / "pods" / str(pod.folder) / "web" / "0.log").unlink()
    assert prune(tmp_path / "pods", tmp_path / "identity", lambda _: False, keep_runs=0) == [pod.uid]
    assert list((tmp_path / "pods").iterdir()) == list((tmp_path / "identity").iterdir()) == []


def test_where_nothing_ran_yet_there_is_nothing_to_prune(tmp_path: Path):
    assert prune(tmp_path / "pods", tmp_path / "identity", lambda _: True) == []
