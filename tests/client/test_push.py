"""`paas logs:push` as a program: every line is stored once, however often a post has to be repeated."""

import os
import signal
import subprocess
import sys

import pytest
from aiohttp import web

from logsvc.client.push import BATCH, LINGER, LONGEST, PIECE
from tests.client.flaky import Flaky, flaky, problem
from tests.client.program import paas, start
from tests.support import Tally, eventually, loghub, numbered
from tests.support.wait import DEADLINE

TEXT = loghub("HDFS")


def text(lines: int) -> bytes:
    return b"".join(numbered("w", seq, TEXT[seq % len(TEXT)]) + b"\n" for seq in range(lines))


def check(server: Flaky, lines: int) -> None:
    tally = Tally()
    tally.feed(b"\n".join(server.stored()))
    tally.check({"w": lines})


def test_every_line_is_stored_in_order_under_its_process_and_dyno() -> None:
    said = text(30_000)
    assert len(said) > 4 * BATCH
    with flaky() as server:
        done = paas("logs:push", "-a", "demo", "-p", "build", url=server.url, stdin=said)
        assert b"".join(server.posted.values()) == said
        for path, query, headers in server.requests:
            assert path == "/v1/apps/demo/logs"
            assert query == {"process": ["build"], "dyno": ["build.1"]}
            assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert all(body.endswith(b"\n") for body in server.posted.values())
    assert max(map(len, server.posted.values())) <= BATCH + 64 * 1024


def test_a_post_that_is_repeated_stores_nothing_twice() -> None:
    async def busy(request: web.Request, number: int) -> web.StreamResponse | None:  # noqa: ARG001 - a handler's shape
        if number % 4 == 2:
            return None
        answer = problem(503, title="Starting up")
        answer.headers["Retry-After"] = "0"
        return answer if number % 4 == 0 else None

    # Every third post is stored and its connection cut before the answer, every fourth is refused for now.
    with flaky(treatment=busy, cut_after=lambda: 0) as server:
        done = paas("logs:push", "-a", "demo", "-p", "build", url=server.url, stdin=text(30_000))
        assert server.posts > len(server.posted), "some were repeated"
        check(server, 30_000)
    assert done.returncode == 0
    assert b"paas: Starting up; trying again in " in done.stderr


def test_a_line_is_stored_soon_though_the_program_goes_on() -> None:
    with flaky() as server:
        process = start("logs:push", "-a", "demo", "-p", "build", "-d", "b.7", url=server.url, stdin=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(b"one\ntwo\nthr")
        process.stdin.flush()
        eventually(lambda: server.stored() == [b"one", b"two"])
        process.stdin.write(b"ee\nthe end")
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
        assert server.stored() == [b"one", b"two", b"three", b"the end"]
        assert server.requests[0][1]["dyno"] == ["b.7"]
    assert LINGER < 1


def test_tee_passes_on_what_it_reads_even_to_nobody() -> None:
    said = text(1000) + b"no newline, \xff\x00"
    with flaky() as server:
        done = paas("logs:push", "--tee", "-a", "demo", "-p", "build", url=server.url, stdin=said)
        assert (done.returncode, done.stdout) == (0, said)
        server.posted.clear()
        process = start(
            "logs:push", "--tee", "-a", "demo", "-p", "build", url=server.url, stdin=subprocess.PIPE, stderr=None
        )
        assert process.stdout
        assert process.stdin
        process.stdout.close()
        process.stdin.write(said)
        process.stdin.close()
        assert process.wait(DEADLINE) == 0
        assert b"".join(server.posted.values()) == said


def test_a_line_beyond_all_measure_is_cut_where_the_service_cuts_it() -> None:
    said = b"x" * (LONGEST + 3 * PIECE + 5) + b"\nafter\n"
    with flaky() as server:
        done = paas("logs:push", "-a", "demo", "-p", "build", url=server.url, stdin=said)
        bodies = list(server.posted.values())
    assert done.returncode == 0
    assert b"".join(bodies) == said
    assert all(len(body) % PIECE == 0 for body in bodies[:-1])


def test_memory_is_bounded_whatever_comes() -> None:
    async def swallow(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        return web.json_response({})

    peak = """
import re, sys
from pathlib import Path
from logsvc.client.__main__ import _run
assert _run() == 0
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    with flaky(treatment=swallow) as server:
        sizes = []
        for megabytes in (1, 100):
            command = [sys.executable, "-c", peak, "logs:push", "-a", "demo", "-p", "build"]
            environment = os.environ | {"PAAS_URL": server.url}
            done = subprocess.run(
                command,
                input=(b"y" * 99 + b"\n") * (megabytes * 10_000),
                env=environment,
                capture_output=True,
                check=True,
            )
            sizes.append(int(done.stdout))
    assert sizes[1] - sizes[0] < 16 * 1024, f"KiB for 1 MB and for 100 MB: {sizes}"


def test_ctrl_c_stores_what_was_said_and_ends_with_130() -> None:
    with flaky() as server:
        process = start("logs:push", "-a", "demo", "-p", "build", url=server.url, stdin=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(b"first\n")
        process.stdin.flush()
        eventually(lambda: server.stored() == [b"first"])
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"last words\nunfinished")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 130
        assert process.stderr
        assert process.stderr.read() == b""
        process.communicate()
        assert server.stored() == [b"first", b"last words", b"unfinished"]


@pytest.mark.parametrize("arguments", [["-a", "demo"], ["-p", "build"]])
def test_it_needs_an_app_and_a_process(arguments: list[str]) -> None:
    done = paas("logs:push", *arguments, url="http://127.0.0.1:9", stdin=b"")
    assert done.returncode == 2
    assert done.stderr.startswith(b"paas: Missing option")


def test_a_refusal_ends_it_with_one_line() -> None:
    async def refuse(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        return problem(400, title="Bad Request", detail="process: begins with a letter", parameter="process")

    with flaky(treatment=refuse) as server:
        done = paas("logs:push", "-a", "demo", "-p", "-build", url=server.url, stdin=text(30_000))
        assert len(server.requests) == 1
    assert done.returncode == 1
    assert done.stderr == b"paas: --process-type: begins with a letter\n"
