"""What an answer means, when to try again, and when to tell the app: pure, so every case is a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.drains.policy import (
    LONGEST_PATIENCE,
    Answer,
    Backoff,
    Outcome,
    Rejected,
    judge,
    seconds_of,
    told,
    with_rejected,
)
from logsvc.drains.trouble import Trouble, duration

NOW = 1_795_399_200.0
"""2026-11-23T02:00:00Z."""


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([200, 201, 202, 204, 299], Outcome.TAKEN),
        ([400, 401, 403, 404, 408, 410, 413, 499], Outcome.REFUSED),
        ([429, 500, 502, 503, 504, 599, 301, 302, 307, 308, 100, 600, 999], Outcome.FAILED),
    ],
)
def test_2xx_is_done_4xx_but_429_is_dropped_and_everything_else_is_tried_again(
    statuses: list[int], outcome: Outcome
) -> None:
    assert {judge(status, b"", None, NOW).outcome for status in statuses} == {outcome}


def test_an_answer_is_told_in_words() -> None:
    assert judge(503, b"", None, NOW).words == "answers 503 Service Unavailable"
    assert judge(400, b'{"error":"bad\nkey"}\n', None, NOW).words == 'answers 400 Bad Request: {"error":"bad key"}'
    assert judge(404, b"<html>not here</html>", None, NOW).words == "answers 404 Not Found"
    assert judge(302, b"moved", None, NOW).words.startswith("answers 302 Found (redirects are not followed")
    assert judge(777, b"", None, NOW).words == "answers 777"


@given(body=st.binary(max_size=2000))
def test_what_a_receiver_says_is_one_short_line_without_control_characters(body: bytes) -> None:
    text = told(body.decode("utf-8", "ignore"))
    assert len(text) <= 201
    assert text.isprintable()


def test_what_is_rejected_of_a_frame_that_is_taken_is_told_in_words() -> None:
    taken = judge(200, b"", None, NOW)
    assert with_rejected(taken, None) == taken
    assert with_rejected(taken, Rejected(3, "over\nquota")) == (
        Outcome.TAKEN, "rejects lines of what it takes: over quota", None, 3,
    )  # fmt: skip
    assert with_rejected(taken, Rejected(1, "")).words == "rejects lines of what it takes: no reason given"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 7 ", 7),
        ("999999999999999999999", LONGEST_PATIENCE),
        ("Mon, 23 Nov 2026 02:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 01:00:00 GMT", 0),
        ("Mon, 23 Nov 2099 01:00:00 GMT", LONGEST_PATIENCE),
        ("-3", None),
        ("soon", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, NOW) == seconds


@given(header=st.text(max_size=40))
def test_no_retry_after_can_hold_up_a_drain_for_longer(header: str) -> None:
    seconds = seconds_of(header, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_PATIENCE


def test_pauses_double_up_to_the_most_and_chance_takes_at_most_half() -> None:
    longest, shortest = Backoff(1.0, 60.0, lambda: 1.0), Backoff(1.0, 60.0, lambda: 0.0)
    assert [longest.next() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [shortest.next() for _ in range(3)] == [0.5, 1, 2]
    assert longest.next(asked=300) == 300
    assert longest.next(asked=0.1) == 60


ANSWER = Answer(Outcome.FAILED, "answers 503 Service Unavailable")


def test_an_app_is_told_of_a_failing_drain_once_it_lasts_and_then_now_and_then() -> None:
    trouble = Trouble("https://logs.example.com", every=900.0)
    said = [trouble.failed("A", ANSWER, float(second)) for second in range(0, 3600, 10)]
    assert [number * 10 for number, text in enumerate(said) if text] == [20, 920, 1820, 2720]
    assert said[2] == (
        "Drain https://logs.example.com: the receiver answers 503 Service Unavailable, for 20 s now. "
        "Lines wait, and are sent once it takes them"
    )
    assert trouble.taken("A") == "Drain https://logs.example.com: the receiver takes lines again"
    assert trouble.taken("B") is None
    assert [trouble.failed("C", ANSWER, 3600.0 + second) for second in range(3)] == [None] * 3


def test_of_several_frames_one_that_fails_for_long_is_told_of_and_the_others_do_not_end_that() -> None:
    trouble = Trouble("x", every=900.0)
    assert [trouble.failed(name, ANSWER, 0.0) for name in "ABCD"] == [None] * 4
    assert trouble.taken("B") is None
    assert trouble.failed("A", ANSWER, 1.0) is None
    assert trouble.failed("A", ANSWER, 3.0) is not None
    assert trouble.taken("C") is None
    assert trouble.refused("D", ANSWER, 5, 4.0) is None
    assert trouble.failing
    assert trouble.taken("A") == "Drain x: the receiver takes lines again. 5 more lines were dropped before"
    assert not trouble.failing


def test_lines_that_are_refused_are_all_counted_and_told_of_now_and_then() -> None:
    trouble = Trouble("x", every=900.0)
    assert trouble.refused("A", Answer(Outcome.REFUSED, "answers 400 Bad Request"), 10, 0.0) == (
        "Drain x: the receiver answers 400 Bad Request. 10 lines were dropped"
    )
    assert trouble.refused("A", ANSWER, 5, 1.0) is None
    assert trouble.refused("A", ANSWER, 5, 2.0) is None
    told = trouble.refused("A", ANSWER, 1, 901.0)
    assert told is not None
    assert told.endswith("11 lines were dropped")
    assert trouble.refused("A", ANSWER, 3, 902.0) is None
    assert trouble.taken("A") == "Drain x: the receiver takes lines again. 3 more lines were dropped before"


def test_durations_in_words() -> None:
    assert [duration(seconds) for seconds in (3, 119, 120, 7199, 7200, 90_000)] == [
        "3 s", "119 s", "2 min", "120 min", "2 h", "25 h",
    ]  # fmt: skip
