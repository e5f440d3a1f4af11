"""`paas logs` as a program: nothing lost or doubled however its connections end, and it ends as a shell expects."""

import os
import pty
import random
import re
import signal
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from subprocess import Popen

import orjson
import pytest
from aiohttp import web

from logsvc.client.follow import Follow, Query
from logsvc.client.output import Output
from logsvc.client.render import PlainText
from logsvc.client.service import Backoff, Service
from logsvc.client.settings import Settings
from tests.client.flaky import Flaky, event, flaky, problem
from tests.client.program import paas, start
from tests.support import Tally, eventually, loghub, numbered
from tests.support.wait import DEADLINE

TEXT = loghub("Apache")


def log(lines: int) -> list[bytes]:
    return [numbered("w", seq, TEXT[seq % len(TEXT)]) for seq in range(lines)]


def cuts(seed: int, most: int) -> Callable[[], int]:
    rng = random.Random(seed)
    return lambda: rng.randrange(most)


@contextmanager
def running(*arguments: str, server: Flaky, **how: object) -> Iterator[Popen[bytes]]:
    process = start(*arguments, url=server.url, **how)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(fd: int, enough: Callable[[bytearray], bool]) -> bytes:
    """What comes from a pipe or a terminal until `enough`, or its end."""
    got = bytearray()
    while not enough(got):
        try:
            data = os.read(fd, 1 << 16)
        except OSError:  # the other side of a terminal has closed
            break
        if not data:
            break
        got += data
    return bytes(got)


@pytest.mark.parametrize("seed", range(3))
def test_a_tail_that_is_cut_at_random_bytes_loses_and_doubles_nothing(seed: int) -> None:
    lines = log(3000)
    tally = Tally()
    with (
        flaky(lines=lines, cut_after=cuts(seed, 20_000), retry_ms=5) as server,
        running("logs", "-t", "-n", "3000", "-a", "demo", server=server, stderr=None) as process,
    ):
        assert process.stdout
        out = read_until(process.stdout.fileno(), lambda got: b"seq=2999 " in got[-1000:])
        tally.feed(out)
        assert len(server.requests) > 10, "it was cut"
        server.lines += [numbered("w", 3000)]
        tally.feed(read_until(process.stdout.fileno(), lambda got: got.endswith(b"seq=3000\n")))
    tally.check({"w": 3001})
    assert out.count(b"\n") == 3000


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_that_is_cut_is_complete_all_the_same_and_no_longer(seed: int) -> None:
    with flaky(lines=log(2000), cut_after=cuts(seed, 20_000), retry_ms=5, grow=1) as server:
        done = paas("logs", "-n", "1999", "-a", "demo", url=server.url)
        assert len(server.requests) > 10
    tally = Tally(from_start=False)
    tally.feed(done.stdout)
    tally.check({"w": 2000})
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 1999, "what was added meanwhile is not part of the answer"
    assert b"trying again in" in done.stderr
    assert b"connected again after" in done.stderr


def test_on_a_terminal_too() -> None:
    master, slave = pty.openpty()
    with (
        flaky(lines=log(500), cut_after=cuts(7, 20_000), retry_ms=5) as server,
        running("logs", "-t", "-n", "500", "-a", "demo", server=server, stdout=slave, stderr=slave),
    ):
        os.close(slave)
        shown = read_until(master, lambda got: b"seq=499 " in got[-1000:])
    os.close(master)
    tally = Tally()
    tally.feed(shown)
    tally.check({"w": 500})
    assert b"\x1b[36m2026-11-23T02:00:00.000000+00:00 app[web.1]:\x1b[39m " in shown
    assert b"\x1b" not in re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
    assert b"paas: " in shown, "it says that it reconnects"


def test_a_reader_who_has_enough_ends_it_quietly_even_while_nothing_comes() -> None:
    with flaky(lines=log(3)) as server, running("logs", "-t", "-a", "demo", server=server) as process:
        assert process.stdout
        assert process.stderr
        assert b"seq=0 " in process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 0
        assert process.stderr.read() == b""


def test_and_while_it_waits_to_reconnect() -> None:
    async def away(request: web.Request, number: int) -> web.StreamResponse | None:  # noqa: ARG001 - a handler's shape
        return problem(503, title="Starting up") if number else None

    with (
        flaky(lines=log(3), treatment=away, tail_until=3, retry_ms=60_000) as server,
        running("logs", "-t", "-a", "demo", server=server) as process,
    ):
        assert process.stdout
        assert process.stderr
        assert b"trying again in" in process.stderr.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 0


def test_ctrl_c_ends_it_with_130_and_no_word() -> None:
    with flaky(lines=log(3)) as server, running("logs", "-t", "-a", "demo", server=server) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert process.stderr.read() == b""


def test_the_flags_are_what_the_service_is_asked_for() -> None:
    flags = "-p web -p worker -d web.1 -s app --stream stderr --grep a&b --grep x --grep-re ^y -i -n 7"
    flags += " --exclude z --exclude-re w$"
    barred = "--not-process-type clock --not-dyno web.2 --not-dyno-name web.3 --not-source platform --not-stream stdout"
    with flaky() as server:
        assert (
            paas(
                "logs", "-a", "my app", *flags.split(), *barred.split(), url=server.url, PAAS_TOKEN="secret"
            ).returncode
            == 0
        )
        path, query, headers = server.requests[0]
    assert path == "/v1/apps/my app/logs"
    assert headers["Authorization"] == "Bearer secret"
    assert query == {
        "num": ["7"],
        "process": ["web", "worker"],
        "dyno": ["web.1"],
        "source": ["app"],
        "stream": ["stderr"],
        "not_process": ["clock"],
        "not_dyno": ["web.2", "web.3"],
        "not_source": ["platform"],
        "not_stream": ["stdout"],
        "grep": ["a&b", "x"],
        "grep_re": ["^y"],
        "exclude": ["z"],
        "exclude_re": ["w$"],
        "ignore_case": ["1"],
    }


def test_times_are_sent_in_utc_and_without_a_number_all_between_is_meant() -> None:
    with flaky() as server:
        times = ("--since", "2026-11-23 02:00", "--until", "2026-11-23T03:00:00.5Z")
        assert paas("logs", "--tz", "Europe/Berlin", *times, url=server.url, PAAS_APP="demo").returncode == 0
        _, query, _ = server.requests[0]
    assert query == {"since": ["2026-11-23T01:00:00.000000000Z"], "until": ["2026-11-23T03:00:00.500000000Z"]}


def test_json_is_printed_as_it_came_notices_too() -> None:
    notice = b'event: notice\nid: 1.0.9.0\ndata: {"notice":"12 bytes are missing","cursor":"1.0.9.0"}\n\n'

    async def with_notice(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        body = event(0, [b"x \x07"]) + notice + b"event: unknown\ndata: ?\n\n" + b"event: end\ndata: {}\n\n"
        return web.Response(body=body, content_type="text/event-stream")

    with flaky(treatment=with_notice) as server:
        as_json = paas("logs", "--json", "-a", "demo", url=server.url).stdout.splitlines()
        as_text = paas("logs", "-a", "demo", url=server.url).stdout.splitlines()
    assert [orjson.loads(line).get("message") for line in as_json] == ["x \x07", None]
    assert as_json[1] == b'{"notice":"12 bytes are missing","cursor":"1.0.9.0"}'
    assert as_text[0] == b"2026-11-23T02:00:00.000000+00:00 app[web.1]: x \x07"
    assert as_text[1].endswith(b" platform[logsvc]: 12 bytes are missing")


def test_colours_can_be_forced_into_a_pipe_and_kept_off_a_terminal() -> None:
    with flaky(lines=[b"plain"]) as server:
        assert b"\x1b[36m" in paas("logs", "-a", "demo", "--force-colors", url=server.url).stdout
        for arguments in (["--no-color"], []):
            master, slave = pty.openpty()
            with running("logs", "-a", "demo", *arguments, server=server, stdout=slave) as process:
                os.close(slave)
                shown = read_until(master, lambda got: b"\n" in got)
                process.wait(DEADLINE)
            os.close(master)
            assert (b"\x1b" in shown) is (not arguments)


def test_a_long_answer_into_a_file_shows_progress_on_the_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with (
        flaky(lines=log(2000)) as server,
        (tmp_path / "out").open("wb") as file,
        running("logs", "-n", "2000", "-a", "demo", server=server, stdout=file, stderr=slave) as process,
    ):
        os.close(slave)
        shown = read_until(master, lambda _: False)
        assert process.wait(DEADLINE) == 0
    os.close(master)
    assert re.match(rb"\r[\d,]+ of 2,000 lines, [\d.]+ MB\x1b\[K", shown)
    assert shown.endswith(b"\r\x1b[K"), "and takes it away"
    assert (tmp_path / "out").read_bytes().count(b"\n") == 2000


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            problem(400, title="Bad Request", detail="grep_re: missing )", parameter="grep_re"),
            "paas: --grep-re: missing )\n",
        ),
        (
            problem(400, title="Bad Request", detail="not_dyno: is no name", parameter="not_dyno"),
            "paas: --not-dyno-name: is no name\n",
        ),
        (problem(400, title="Bad Request", detail="is empty", parameter="other"), "paas: other: is empty\n"),
        (problem(404, title="There is no app demo"), "paas: There is no app demo\n"),
        (problem(401, title="Not allowed\n\x1b[2J"), "paas: Not allowed (set PAAS_TOKEN)\n"),
        (web.Response(status=403, text="<html>"), "paas: the service answers 403 Forbidden\n"),
        (
            web.Response(status=307, headers={"Location": "https://other.example/"}),
            "paas: the service is at https://other.example/; set PAAS_URL\n",
        ),
    ],
)
def test_a_refusal_is_one_plain_line_and_not_tried_again(answer: web.Response, complaint: str) -> None:
    async def refuse(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        return answer

    with flaky(treatment=refuse) as server:
        done = paas("logs", "-a", "demo", url=server.url)
        assert len(server.requests) == 1
    assert (done.returncode, done.stderr.decode(), done.stdout) == (1, complaint, b"")


def test_an_answer_that_is_no_log_is_an_error() -> None:
    async def page(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        return web.Response(text="<html>", content_type="text/html")

    with flaky(treatment=page) as server:
        done = paas("logs", "-a", "demo", url=server.url)
    assert done.returncode == 1
    assert b"answers with text/html, not with a log" in done.stderr


@pytest.mark.parametrize("status", [409, 429, 503])
def test_a_busy_service_is_asked_again(status: int) -> None:
    async def busy(request: web.Request, number: int) -> web.StreamResponse | None:  # noqa: ARG001 - a handler's shape
        answer = problem(status, title="Busy")
        answer.headers["Retry-After"] = "0"
        return answer if number < 2 else None

    with flaky(lines=log(5), treatment=busy) as server:
        done = paas("logs", "-a", "demo", url=server.url)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 5
    assert done.stderr.startswith(b"paas: Busy; trying again in 0.")


def test_what_does_not_speak_http_is_an_error_at_once() -> None:
    async def hang_up(request: web.Request, number: int) -> web.StreamResponse | None:  # noqa: ARG001 - a handler's shape
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with flaky(treatment=hang_up) as server:
        done = paas("logs", "-t", "-a", "demo", url=server.url)
        assert len(server.requests) == 1
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"paas: can't reach {server.url}")


def test_a_service_that_is_not_there_is_an_error_at_once() -> None:
    done = paas("logs", "-t", "-a", "demo", url="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr == b"paas: can't reach http://127.0.0.1:9: connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-a", "demo", "--since", "25:00"], "Invalid value for '--since': the hour 25 in 25:00 is above 23"),
        (["-a", "demo", "--tail", "--until", "now"], "--until and --tail exclude each other"),
        (["-a", "demo", "--since", "1m", "--until", "2m"], "--since is not before --until"),
        (["-a", "demo", "--tz", "Mars"], "there is no time zone 'Mars'"),
        (["-a", "demo", "-n", "-1"], "-1"),
        (["-a", "demo", "--no-color", "--force-colors"], "exclude each other"),
        (["-a", ".."], "an app can't be called '..'"),
        ([], "Missing option '-a' / '--app'"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line_too(arguments: list[str], complaint: str) -> None:
    done = paas("logs", *arguments, url="http://127.0.0.1:9")
    assert done.returncode in {1, 2}
    assert complaint in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_no_output_to_write_to_is_an_error() -> None:
    with flaky(lines=log(5)) as server, Path("/dev/full").open("wb") as full:
        process = start("logs", "-a", "demo", url=server.url, stdout=full)
        _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert complaint == b"paas: can't write the output: No space left on device\n"


def test_a_compressed_tail_is_live() -> None:
    async def compressed(request: web.Request, number: int) -> web.StreamResponse:  # noqa: ARG001 - a handler's shape
        headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip", "Logsvc-Cursor": "1.0.-1.0"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        squeeze = zlib.compressobj(wbits=31)
        for seq in range(3):
            await response.write(squeeze.compress(event(seq, [numbered("w", seq)])) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        await server.closing.wait()
        return response

    with flaky(treatment=compressed) as server, running("logs", "-t", "-a", "demo", server=server) as process:
        assert process.stdout
        assert [numbered("w", seq) in process.stdout.readline() for seq in range(3)] == [True] * 3


def test_a_connection_that_has_gone_silent_is_given_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def silent(request: web.Request, number: int) -> web.StreamResponse | None:
        if number:
            return None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Logsvc-Cursor": "1.0.-1.0"})
        await response.prepare(request)
        await response.write(event(0, [numbered("w", 0)]))
        await server.closing.wait()
        return response

    path = tmp_path / "out"
    with flaky(lines=log(3), treatment=silent) as server, path.open("wb") as file:
        service = Service(Settings(server.url), read_timeout=3)
        query = Query("demo", [("num", "3")], tail=False, limit=3)
        Follow(service, query, PlainText(), Output(file.fileno()), backoff=Backoff(0.01)).run()
        assert server.requests[1][2]["Last-Event-ID"] == "1.0.0.0"
    tally = Tally()
    tally.feed(path.read_bytes())
    tally.check({"w": 3})
    assert "nothing came from the service for too long; trying again" in capfd.readouterr().err


def test_an_answer_cut_before_its_first_line_goes_on_from_where_it_started() -> None:
    first = count()
    with (
        flaky(lines=[], cut_after=lambda: 0 if next(first) == 0 else None) as server,
        running("logs", "-t", "-n", "0", "-a", "demo", server=server) as process,
    ):
        assert process.stdout
        eventually(lambda: len(server.requests) >= 1)
        server.lines += log(2)
        assert b"seq=0 " in process.stdout.readline()
        assert server.requests[1][2]["Last-Event-ID"] == "1.0.-1.0"


def test_backoff_doubles_is_bounded_and_does_what_the_service_asks() -> None:
    backoff = Backoff(0.5, 15.0)
    delays = [backoff.next() for _ in range(12)]
    assert all(0.5 * 2**n / 2 <= delay <= min(15, 0.5 * 2**n) for n, delay in enumerate(delays[:5]))
    assert max(delays) <= 15
    assert 20 <= backoff.next(20) <= 22
    assert backoff.next(1e9) <= 330
    backoff.reset()
    assert backoff.next() <= 0.5


@pytest.mark.parametrize("cut", [b"", b"1", b"1a\r", b"1a;x", b"\r\n", b"5\r\nab", b"5\r\nabcde\r"])
def test_an_answer_cut_in_the_size_of_a_chunk_is_gone_on_with(cut: bytes) -> None:
    """As `kill -9` leaves it: the connection is lost, which is no error of anybody's and said in plain words."""
    whole = chunk(event(0, log(2))) + chunk(b"event: end\ndata: {}\n\n") + b"0\r\n\r\n"
    with raw_server([CHUNKED + cut, CHUNKED + whole]) as url:
        done = paas("logs", "-a", "demo", url=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"seq=") == 2
    assert b"literal" not in done.stderr
    assert b"the connection was lost" in done.stderr


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nLogsvc-Cursor: 1.0.-1.0\r\n"
    b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def raw_server(answers: list[bytes]) -> Iterator[str]:
    """Gives each connection the next of `answers`, byte for byte, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()
