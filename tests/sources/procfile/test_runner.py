"""Real processes, run and stopped: what they wrote is there, in order, and nothing of them is left."""

import asyncio
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import pytest

from logsvc.errors import ConfigError
from logsvc.sources.procfile import ProcfileRunner, RunnerSettings, State
from logsvc.sources.procfile.dyno import Backoff
from logsvc.sources.procfile.parse import parse_procfile
from logsvc.sources.procfile.rotation import rotated_files
from tests.sources.procfile.support import Run, descriptors_left, largest_file, running
from tests.support import Tally, until

WRITER = """
import sys
for n in range({count}):
    sys.stdout.write(f"writer=w seq={{n}} {padding}\\n")
sys.stdout.flush()
"""


def python(code: str, *arguments: str) -> str:
    """A command that runs `code`."""
    return shlex.join(["exec", "python", "-c", f"exec({code!r})", *arguments]).replace("'exec'", "exec")


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried doesn't."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        # The second where it goes between the opening and the reading.
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def pids(run: Run, dyno: str, count: int) -> list[int]:
    """The first `count` numbers that a dyno wrote, each on a line of its own."""

    def found() -> list[int]:
        return [int(text) for source, text in run.lines(dyno) if source == "stdout" and text.isdigit()]

    await until(lambda: len(found()) >= count, what=f"{count} pids of {dyno}")
    return found()


async def test_platform_lines_stand_in_order_with_the_apps_own(tmp_path: Path):
    async with running(tmp_path, "web: echo out; echo err >&2; printf 'no newline'; exit 3", backoff_first=60) as run:
        await run.heard("web.1", "Process starts again in 0.04 s")
    lines = run.lines("web.1")
    assert lines[:2] == [
        ("platform", b"Starting process with command `echo out; echo err >&2; printf 'no newline'; exit 3`"),
        ("platform", b"State changed from starting to up"),
    ]
    assert sorted(lines[2:5]) == [("stderr", b"err"), ("stdout", b"no newline"), ("stdout", b"out")]
    assert lines[5:] == [
        ("platform", b"Process exited with status 3"),
        ("platform", b"State changed from up to crashed"),
        ("platform", b"Process starts again in 0.04 s"),
    ]


async def test_what_crashes_starts_again_in_a_file_of_its_own(tmp_path: Path):
    async with running(tmp_path, "web: echo run; exit 1", keep_restarts=3) as run:
        await run.heard("web.1", "State changed from crashed to starting", times=6)
    logs = sorted(int(path.stem) for path in run.folder("web.1").iterdir())
    assert len(logs) in (3, 4), "the newest three, and the next one where it was just begun"
    assert logs == list(range(logs[0], logs[-1] + 1))
    assert run.lines("web.1", logs[1])[:4] == [
        ("platform", b"State changed from crashed to starting"),
        ("platform", b"Starting process with command `echo run; exit 1`"),
        ("platform", b"State changed from starting to up"),
        ("stdout", b"run"),
    ]


def test_backoff_doubles_to_a_minute_and_forgets_after_a_good_run():
    backoff = Backoff(first=1, most=60, settled=60)
    assert [backoff.after(0.1) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.after(ran) for ran in (59.9, 60, 0, 0)] == [60, 1, 2, 4]


async def test_release_runs_first_and_once(tmp_path: Path):
    procfile = "web: cat mark; exec sleep 100\nrelease: echo migrated > mark"
    async with running(tmp_path, procfile) as run:
        await run.wrote("web.1", b"migrated")
    assert run.said[:5] == [
        ("release.1", "Starting process with command `echo migrated > mark`"),
        ("release.1", "State changed from starting to up"),
        ("release.1", "Process exited with status 0"),
        ("release.1", "State changed from up to complete"),
        ("web.1", "Starting process with command `cat mark; exec sleep 100`"),
    ]
    assert run.task.result() is None
    assert run.runner.states == {"release.1": State.COMPLETE, "web.1": State.DOWN}


async def test_where_release_fails_nothing_else_starts(tmp_path: Path):
    run = Run(tmp_path, "web: echo never\nrelease: echo no database >&2; exit 4")
    assert await run.runner.run() == 4
    assert run.lines("release.1")[-3:] == [
        ("platform", b"Process exited with status 4"),
        ("platform", b"State changed from up to crashed"),
        ("platform", b"Release command failed with status 4: no process is started"),
    ]
    assert ("stderr", b"no database") in run.lines("release.1")
    assert not list(run.folder("web.1").iterdir())


async def test_stop_sends_sigterm_to_all_and_waits_for_their_last_words(tmp_path: Path):
    farewell = "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), exit(0))); print('ready'); signal.pause()"
    async with running(tmp_path, f"web: {python('import signal; ' + farewell)}", scale={"web": 2}) as run:
        await run.wrote("web.1", b" F ready\n")
        await run.wrote("web.2", b" F ready\n")
        await run.runner.stop()
        for dyno in ("web.1", "web.2"):
            assert run.lines(dyno)[-5:] == [
                ("stdout", b"ready"),
                ("platform", b"Stopping all processes with SIGTERM"),
                ("stdout", b"bye"),
                ("platform", b"Process exited with status 0"),
                ("platform", b"State changed from up to down"),
            ]


async def test_what_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path):
    async with running(tmp_path, "web: trap '' TERM; echo ready; while :; do sleep 1; done", grace=0.1) as run:
        await run.wrote("web.1", b" F ready\n")
    assert run.lines("web.1")[-5:] == [
        ("platform", b"Stopping all processes with SIGTERM"),
        (
            "platform",
            b"Error R12 (Exit timeout) -> At least one process failed to exit within 0.1 seconds of SIGTERM",
        ),
        ("platform", b"Stopping remaining processes with SIGKILL"),
        ("platform", b"Process exited with status 137"),
        ("platform", b"State changed from up to down"),
    ]


FAMILY = """trap '' TERM HUP; echo $$; sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' &
(setsid sh -c 'echo $$; exec sleep 1000' &); wait; wait; sleep 1000""".replace("\n", " ")
"""A process, a child, one in a session of its own, and an orphan in a session of its own."""


async def test_children_that_went_their_own_way_are_stopped_too(tmp_path: Path):
    async with running(tmp_path, f"web: {FAMILY}", grace=0.1) as run:
        await run.wrote("web.1", b"State changed")
        family = await pids(run, "web.1", 4)
        assert all(map(alive, family))
    assert not any(map(alive, family))


async def test_what_a_process_leaves_behind_when_it_exits_is_killed(tmp_path: Path):
    async with running(tmp_path, "web: sleep 1000 & echo $!; exit 0", backoff_first=60, backoff_most=60) as run:
        await run.heard("web.1", "Process exited with status 0")
        (child,) = await pids(run, "web.1", 1)
        assert not alive(child)


async def test_kill_9_of_the_runner_leaves_no_process(tmp_path: Path):
    code = f"""
import asyncio, pathlib
from logsvc.sources.procfile import ProcfileRunner, RunnerSettings
from logsvc.sources.procfile.parse import parse_procfile
folder = pathlib.Path({str(tmp_path)!r})
settings = RunnerSettings(pods=folder / "pods", identities=folder / "identity", tenant="default", app="demo")
procfile = {f"web: {FAMILY}"!r}
asyncio.run(ProcfileRunner(parse_procfile(procfile), settings, directory=folder).run())
"""
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    try:
        run = Run(tmp_path, "web: never started here")
        await run.wrote("web.1", b"State changed")
        family = await pids(run, "web.1", 4)
        assert all(map(alive, family))
    finally:
        other.kill()
        await other.wait()
    await until(lambda: not any(map(alive, family)), what="the end of the whole family")


async def test_a_process_does_not_outlive_its_shim(tmp_path: Path):
    async with running(tmp_path, "web: echo $$; exec sleep 1000", backoff_first=60, backoff_most=60) as run:
        await run.wrote("web.1", b"State changed")
        (process,) = await pids(run, "web.1", 1)
        shim = parent(process)
        os.kill(shim, signal.SIGKILL)
        await run.heard("web.1", "Process exited with status 137")
        assert not alive(process)


async def test_cancelling_the_runner_kills_what_runs(tmp_path: Path):
    run = Run(tmp_path, "web: trap '' TERM; echo $$; sleep 1000; sleep 1000")
    task = asyncio.create_task(run.runner.run())
    await run.wrote("web.1", b"State changed")
    (pid,) = await pids(run, "web.1", 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)


async def test_rotated_and_compressed_under_load_no_line_is_missing(tmp_path: Path):
    count = 100_000
    writer = python(WRITER.format(count=count, padding="x" * 60))
    async with running(tmp_path, f"web: {writer}; exec sleep 1000", rotate_bytes=500_000, keep_rotated=1000) as run:
        await run.wrote("web.1", f"seq={count - 1} ".encode())
        log = run.folder("web.1") / "0.log"
        await until(lambda: all(path.suffix == ".gz" for path in rotated_files(log)[:-1]), what="all compressed")
    rotated = rotated_files(log)
    assert len(rotated) > 10
    assert rotated[-1].suffix != ".gz", "the newest stays plain"
    assert not list(log.parent.glob("*.tmp"))
    tally = Tally()
    tally.feed(run.raw("web.1"))
    tally.check({"w": count})


async def test_only_the_newest_rotated_files_are_kept(tmp_path: Path):
    writer = python(WRITER.format(count=20_000, padding="x" * 60))
    async with running(tmp_path, f"web: {writer}; exec sleep 1000", rotate_bytes=100_000, keep_rotated=3) as run:
        await run.wrote("web.1", b"seq=19999 ")
        log = run.folder("web.1") / "0.log"
        await until(lambda: [p.suffix == ".gz" for p in rotated_files(log)] == [True, True, False])
    tally = Tally(from_start=False)
    tally.feed(run.raw("web.1"))
    assert tally.next("w") == 20_000
    assert (tally.gaps, tally.doubled, tally.misordered) == (0, 0, 0)


async def test_hostile_bytes_come_through_unchanged(tmp_path: Path):
    message = bytes(byte for byte in range(256) if byte != 10)
    forged = b"2026-11-23T02:00:00Z stdout F:platform State changed from up to down"
    (tmp_path / "hostile").write_bytes(
        message + b"\n\n\r\n" + forged + b"\n" + b"z" * 10_000_000 + b"\nend\n" + message
    )
    async with running(tmp_path, "web: cat hostile; exec cat hostile >&2", backoff_first=60, backoff_most=60) as run:
        await run.heard("web.1", "Process exited with status 0")
    lines = run.lines("web.1")
    expected = [message, b"", b"\r", forged, b"z" * 10_000_000, b"end", message]
    assert [text for source, text in lines if source == "stdout"] == expected
    assert [text for source, text in lines if source == "stderr"] == expected
    assert ("platform", b"State changed from up to down") not in lines


async def test_while_the_disk_is_full_the_process_waits_and_nothing_is_lost(tmp_path: Path):
    count = 50_000
    writer = python(WRITER.format(count=count, padding="x" * 100))
    async with running(tmp_path, f"web: {writer}; exec sleep 1000") as run:
        with largest_file(1_000_000):
            await run.heard("web.1", "Can't write to the log: File too large: the process waits")
            assert run.raw("web.1").count(b"\n") < count
        await run.wrote("web.1", f"seq={count - 1} ".encode())
    tally = Tally()
    tally.feed(run.raw("web.1"))
    tally.check({"w": count})


async def test_while_nobody_collects_the_process_waits_and_nothing_is_deleted(tmp_path: Path):
    count = 50_000
    writer = python(WRITER.format(count=count, padding="x" * 100))
    reached = threading.Event()
    options = {"rotate_bytes": 200_000, "keep_rotated": 2, "collected": lambda _: reached.is_set()}
    async with running(tmp_path, f"web: {writer}; exec sleep 1000", **options) as run:
        await run.heard("web.1", "Can't write to the log: too much waits to be collected: the process waits")
        log = run.folder("web.1") / "0.log"
        await until(lambda: all(path.suffix == ".gz" for path in rotated_files(log)[:-1]), what="all compressed")
        tally = Tally()
        tally.feed(run.raw("web.1"))
        tally.check({"w": tally.lines})
        assert tally.lines < count
        assert len(rotated_files(log)) <= 6, "twice what is kept, and the read at which that was seen"
        reached.set()
        await run.wrote("web.1", f"seq={count - 1} ".encode())
        await until(lambda: len(rotated_files(log)) == 2)
    later = Tally(from_start=False)
    later.feed(run.raw("web.1"))
    assert (later.next("w"), later.gaps, later.doubled) == (count, 0, 0)


async def test_processes_see_their_surroundings(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LOGSVC_SIGNING_KEY", "secret")
    monkeypatch.setenv("COLOUR", "of logsvc")
    show = 'echo "$DYNO $PORT $WEB_URL $COLOUR ${LOGSVC_SIGNING_KEY-none} $PYTHONUNBUFFERED $(command -v python)"; pwd'
    run = Run(tmp_path, f"web: {show}\nclock: {show}", variables={"COLOUR": "of .env"}, backoff_first=60)
    web, clock = run.runner.dynos
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.runner.run())
        for dyno in (web, clock):
            await run.wrote(dyno.name, str(tmp_path).encode())
        await run.runner.stop()
    for dyno in (web, clock):
        seen = (
            f"{dyno.name} {dyno.port} http://127.0.0.1:{web.port} of .env none 1 {Path(sys.executable).parent}/python"
        )
        assert ("stdout", seen.encode()) in run.lines(dyno.name)


async def test_a_pods_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path):
    (tmp_path / "pods").write_text("a file in the way")
    run = Run(tmp_path, "web: echo never")
    with pytest.raises(ConfigError, match=r"pods.*can't be written to: "):
        await run.runner.run()


# uvloop itself leaks up to three descriptors where it can't open another while it starts a process.
@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("count", range(6))
async def test_without_descriptors_it_tries_again_and_leaks_none(tmp_path: Path, count: int):
    up = ("web.1", "State changed from starting to up")
    async with running(tmp_path, "web: exit 1") as run:
        await run.heard(*up)
    before = open_files()
    async with running(tmp_path / "again", "web: exit 1", directory=tmp_path) as run:
        await run.heard(*up)
        with descriptors_left(count):
            await until(lambda: "Too many open files" in str(run.said))
        await run.heard(*up, times=run.said.count(up) + 2)
    assert open_files() == before


async def test_a_directory_that_went_away_is_said(tmp_path: Path):
    run = Run(tmp_path, "web: echo never", directory=tmp_path / "gone", backoff_first=60, backoff_most=60)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.runner.run())
        await run.heard("web.1", "Process could not be started: No such file or directory")
        await run.heard("web.1", "Process starts again in 60 s")
        await run.runner.stop()


async def test_a_command_that_does_not_exist_crashes_with_the_shells_words(tmp_path: Path):
    async with running(tmp_path, "web: no-such-program", backoff_first=60, backoff_most=60) as run:
        await run.heard("web.1", "Process exited with status 127")
    assert any(source == "stderr" and b"no-such-program: not found" in text for source, text in run.lines("web.1"))


async def test_a_signal_that_ends_a_process_is_its_status(tmp_path: Path):
    async with running(tmp_path, "web: kill -SEGV $$", backoff_first=60, backoff_most=60) as run:
        await run.heard("web.1", f"Process exited with status {128 + signal.SIGSEGV}")


def test_a_procfile_and_its_env_are_read_from_files(tmp_path: Path):
    (tmp_path / "Procfile").write_text("web: a\nworker: b\n")
    (tmp_path / ".env").write_text("PORT=7000\n")
    settings = RunnerSettings(pods=tmp_path, identities=tmp_path, tenant="default", app="demo")
    runner = ProcfileRunner.of_file(tmp_path / "Procfile", settings)
    assert [dyno.name for dyno in runner.dynos] == ["web.1", "worker.1"]
    assert all(dyno.port >= 7000 for dyno in runner.dynos)
    (tmp_path / ".env").write_text("PORT=http\n")
    with pytest.raises(ConfigError, match=r"PORT in \.env is no port number"):
        ProcfileRunner.of_file(tmp_path / "Procfile", settings)
    assert os.environ.get("PORT") != "7000"


def test_the_tenant_is_part_of_a_folders_name(tmp_path: Path):
    with pytest.raises(ConfigError, match="named like a namespace"):
        RunnerSettings(pods=tmp_path, identities=tmp_path, tenant="../a_b", app="demo")
    assert parse_procfile("web: a")
