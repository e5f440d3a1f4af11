"""What is printed: Heroku's line as it is in a pipe; safe and coloured on a terminal; JSON as it came."""

import re
import time
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.client.colours import Palette
from logsvc.client.render import JsonLines, PlainText, TerminalText, stamper
from logsvc.errors import ClientError
from logsvc.formats.terminal import left_on, sanitized, without_sgr


def json_line(message: str, process: str = "web", dyno: str = "web.1", source: str = "app", time: str = "") -> bytes:
    time = time or "2026-11-23T02:00:00.123456789Z"
    told = {"time": time, "source": source, "process": process, "dyno": dyno, "stream": "stdout", "message": message}
    return orjson.dumps(told)


def line(message: str, **names: str) -> list[bytes]:
    return [json_line(message, **names)]


HEAD = "2026-11-23T02:00:00.123456+00:00 app[web.1]:"


def test_a_line_is_herokus_line() -> None:
    assert PlainText().lines(line("hello")) == f"{HEAD} hello\n".encode()


def test_blank_lines_and_indentation_are_kept() -> None:
    data = [json_line(""), json_line("  at Object.<anonymous>"), json_line("\tat main")]
    for render in (PlainText(), TerminalText(colour=False)):
        assert render.lines(data).decode() == f"{HEAD} \n{HEAD}   at Object.<anonymous>\n{HEAD} \tat main\n"


def test_in_a_pipe_a_message_is_what_was_written() -> None:
    message = "\x1b[31mred\x1b[0m 10%\r20%\x07"
    assert PlainText().lines(line(message)).decode() == f"{HEAD} {message}\n"


def test_on_a_terminal_it_is_safe() -> None:
    shown = TerminalText().lines(line("\x1b[2J\x1b]0;title\x07ok\r")).decode()
    assert shown == f"\x1b[36m{HEAD}\x1b[39m ok\n"


def test_colours_of_a_message_end_with_its_line() -> None:
    assert TerminalText().lines(line("\x1b[31mred")).decode().endswith(" \x1b[31mred\x1b[0m\n")
    assert TerminalText().lines(line("\x1b[31mred\x1b[0m")).decode().endswith(" \x1b[31mred\x1b[0m\n")
    assert TerminalText().lines(line("\x1b[31mred\x1b[m ok")).decode().endswith(" \x1b[31mred\x1b[m ok\n")


def test_no_colour_means_none() -> None:
    assert TerminalText(colour=False).lines(line("\x1b[31mred\x1b[0m")).decode() == f"{HEAD} red\n"


def test_the_name_of_a_dyno_is_made_safe_too() -> None:
    shown = TerminalText(colour=False).lines(line("x", dyno="web\x1b[2J\n.1")).decode()
    assert shown == "2026-11-23T02:00:00.123456+00:00 app[web .1]: x\n"


def test_a_notice_is_a_line_of_the_platform() -> None:
    told = [orjson.dumps({"notice": "12 bytes are missing", "cursor": "1.2.3.4"})]
    stamp = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"
    assert re.fullmatch(stamp + rb" platform\[logsvc\]: 12 bytes are missing\n", PlainText().notice(told))
    assert b"12 bytes are missing" in TerminalText().notice(told)
    timed = [orjson.dumps({"notice": "gap", "time": "2026-11-23T02:00:00.000000001Z"})]
    assert PlainText().notice(timed) == b"2026-11-23T02:00:00.000000+00:00 platform[logsvc]: gap\n"


@pytest.mark.parametrize(
    ("time", "zone", "shown"),
    [
        ("2026-11-23T02:00:00.123456789Z", None, "2026-11-23T02:00:00.123456+00:00"),
        ("2026-11-23T02:00:00.5Z", None, "2026-11-23T02:00:00.500000+00:00"),
        ("2026-11-23T02:00:00Z", None, "2026-11-23T02:00:00.000000+00:00"),
        ("2026-11-23T04:00:00.25+02:00", None, "2026-11-23T02:00:00.250000+00:00"),
        ("2026-11-23T02:00:00.123456789Z", "Asia/Kolkata", "2026-11-23T07:30:00.123456+05:30"),
        ("2026-10-25T00:59:59.999999999Z", "Europe/Berlin", "2026-10-25T02:59:59.999999+02:00"),
        ("2026-10-25T01:00:00.000000000Z", "Europe/Berlin", "2026-10-25T02:00:00.000000+01:00"),
        ("who knows", "Europe/Berlin", "who knows"),
        ("who knows", None, "who knows"),
    ],
)
def test_times_are_shown_in_the_zone(time: str, zone: str | None, shown: str) -> None:
    render = PlainText(ZoneInfo(zone)) if zone else PlainText()
    assert render.lines(line("x", time=time)).decode() == f"{shown} app[web.1]: x\n"


def test_the_machines_own_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert stamper(None)("2026-07-01T12:00:00.000000000Z") == "2026-07-01T08:00:00.000000-04:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_json_is_passed_on_as_it_came() -> None:
    data = [json_line("a\x7fb"), json_line("\u009b2J")]
    assert JsonLines().lines(data) == b"\n".join(data) + b"\n"
    shown = JsonLines(terminal=True).lines(data)
    assert b"\x7f" not in shown
    assert b"\xc2\x9b" not in shown
    assert [orjson.loads(told) for told in shown.splitlines()] == [orjson.loads(told) for told in data]


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"time":1}', b'"text"', b"\xff", b""])
def test_what_is_no_log_line_is_an_error_and_not_skipped(data: bytes) -> None:
    for render in (PlainText(), TerminalText()):
        with pytest.raises(ClientError, match="not a log line"):
            assert render.lines([data]) == b""
        with pytest.raises(ClientError, match="not a log line"):
            render.notice([data])


messages = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                "at=error",
                "at=info",
                "code=H12",
                "method=GET",
                'path="/a b"',
                "dyno=web.1",
                "connect=1ms",
                "service=30000ms",
                "status=200",
                "status=99",
                "status=",
                "=",
                "  ",
                " ",
                "\t",
                "service=x",
                "a=b=c",
                "bytes=0",
            ]
        )
    ).map("".join),
    st.sampled_from(
        [
            "State changed from starting to up",
            "Process exited with status 137",
            "Starting process with command `bundle exec puma` by user a@b.c",
            "Stopping all processes with SIGTERM",
            '10.0.0.1 - - [23/Nov/2026:02:00:00 +0000] "GET /x HTTP/1.1" 404 12 "-" "curl"',
        ]
    ),
)


@given(messages, st.sampled_from(["router", "web", "worker"]), st.sampled_from(["app", "platform"]))
def test_colours_add_nothing_but_colours(message: str, process: str, source: str) -> None:
    safe = sanitized(message)
    shown = Palette().body(source, process, safe)
    assert without_sgr(shown) == without_sgr(safe)
    assert sanitized(shown) == shown
    assert "\x1b" not in safe or not left_on(shown)


def test_herokus_processes_have_their_colours_and_others_take_turns() -> None:
    palette = Palette()
    assert [palette.style(name)[0] for name in ("run.1234", "router", "web.2", "postgres.1", "heroku-postgres")] == [
        "\x1b[33m",
        "\x1b[32m",
        "\x1b[36m",
        "\x1b[35m",
        "\x1b[34m",
    ]
    first = [palette.style(name) for name in ("worker.1", "clock.1", "release.1", "cron", "build", "f", "g")]
    assert [style[0] for style in first[:5]] == [f"\x1b[1m\x1b[{code}m" for code in (32, 36, 35, 33, 34)]
    assert [style[0] for style in first[5:]] == ["\x1b[33m", "\x1b[32m"], "after ten it begins anew"
    assert palette.style("worker.7") == palette.style("worker.1"), "what follows the dot does not count"


def test_pods_of_a_process_share_its_colour() -> None:
    shown = TerminalText().lines(line("a", dyno="web-7f9c-x2x", process="web")).decode()
    assert shown.startswith("\x1b[36m")


def test_a_router_line_is_coloured_by_key_and_status() -> None:
    message = "at=error code=H12 method=GET path=/ dyno=web.1 connect=1ms service=30000ms status=503 bytes=0"
    shown = TerminalText().lines(line(message, process="router", dyno="router", source="platform")).decode()
    assert shown.startswith("\x1b[32m2026-11-23T02:00:00.123456+00:00 platform[router]:\x1b[39m ")
    for key, painted in {
        "at": "\x1b[31merror\x1b[39m",
        "code": "\x1b[1m\x1b[31mH12\x1b[39m\x1b[22m",
        "method": "\x1b[35mGET\x1b[39m",
        "path": "\x1b[32m/\x1b[39m",
        "dyno": "\x1b[36mweb.1\x1b[39m",
        "connect": "\x1b[92m1ms\x1b[39m",
        "service": "\x1b[31m30000ms\x1b[39m",
        "status": "\x1b[31m503\x1b[39m",
        "bytes": "\x1b[2m0\x1b[22m",
    }.items():
        assert f"\x1b[2m{key}=\x1b[22m{painted}" in shown


@pytest.mark.parametrize(
    ("value", "code"), [("99ms", 92), ("100ms", 32), ("500ms", 33), ("5000ms", 93), ("10000ms", 31)]
)
def test_durations_of_the_router_go_from_green_to_red(value: str, code: int) -> None:
    assert f"\x1b[{code}m{value}" in Palette().body("platform", "router", f"service={value}")
