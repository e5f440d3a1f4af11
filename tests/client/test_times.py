"""Times as people write them: what each form means, and a precise sentence for what can't be read."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.client.times import NS, parse_time, rfc3339
from logsvc.errors import BadTime

BERLIN = ZoneInfo("Europe/Berlin")


def ns(*parts: int, zone: ZoneInfo | None = None, fraction: int = 0) -> int:
    moment = datetime(*parts, tzinfo=zone or UTC)  # type: ignore[misc, arg-type] # year, month, day, hour, …
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)) * NS + fraction


NOW = ns(2026, 11, 23, 13, 30)  # a Monday, 14:30 in Berlin


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23T14:00:00Z", ns(2026, 11, 23, 14)),
        ("2026-11-23t14:00:00z", ns(2026, 11, 23, 14)),
        ("2026-11-23T14:00:00.123456789Z", ns(2026, 11, 23, 14, fraction=123456789)),
        ("2026-11-23T14:00:00.5+05:30", ns(2026, 11, 23, 8, 30, fraction=500_000_000)),
        ("2026-11-23 14:00-01:00", ns(2026, 11, 23, 15)),
        ("2026-11-23T14:00", ns(2026, 11, 23, 14, zone=BERLIN)),
        ("2026-11-23  14:00:07 ", ns(2026, 11, 23, 14, 0, 7, zone=BERLIN)),
        ("2026-07-01", ns(2026, 7, 1, zone=BERLIN)),
        ("now", NOW),
        ("today", ns(2026, 11, 23, zone=BERLIN)),
        ("Today 09:15", ns(2026, 11, 23, 9, 15, zone=BERLIN)),
        ("today 23:00", ns(2026, 11, 23, 23, zone=BERLIN)),
        ("yesterday 14:00", ns(2026, 11, 22, 14, zone=BERLIN)),
        ("yesterday", ns(2026, 11, 22, zone=BERLIN)),
        ("friday 17:00", ns(2026, 11, 20, 17, zone=BERLIN)),
        ("monday", ns(2026, 11, 16, zone=BERLIN)),
        ("14:00", ns(2026, 11, 23, 14, zone=BERLIN)),
        ("14:30", NOW),
        ("15:00", ns(2026, 11, 22, 15, zone=BERLIN)),
        ("9:05:01.25", ns(2026, 11, 23, 9, 5, 1, zone=BERLIN, fraction=250_000_000)),
        ("15m", NOW - 900 * NS),
        ("15m ago", NOW - 900 * NS),
        ("1h30m", NOW - 5400 * NS),
        ("2 days ago", NOW - 2 * 86400 * NS),
        ("1w 1s", NOW - (7 * 86400 + 1) * NS),
        ("1.5h", NOW - 5400 * NS),
        ("250ms", NOW - 250_000_000),
        ("0s", NOW),
    ],
)
def test_a_time_means_what_a_reader_of_the_log_expects(text: str, meant: int) -> None:
    assert parse_time(text, NOW, BERLIN) == meant


def test_days_are_those_of_the_zone() -> None:
    now = ns(2026, 11, 23, 23, 30)
    assert parse_time("today", now, BERLIN) == ns(2026, 11, 24, zone=BERLIN)
    assert parse_time("today", now, ZoneInfo("UTC")) == ns(2026, 11, 23)


def test_without_a_zone_the_machines_own_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert parse_time("2026-07-01 12:00", NOW, None) == ns(2026, 7, 1, 16)
        assert parse_time("2026-12-01 12:00", NOW, None) == ns(2026, 12, 1, 17)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_summer_time() -> None:
    after = ns(2026, 11, 1)
    assert parse_time("2026-03-29 02:30", after, BERLIN) == ns(2026, 3, 29, 1, 30), "skipped: the offset before"
    assert parse_time("2026-10-25 02:30", after, BERLIN) == ns(2026, 10, 25, 0, 30), "twice: the first"
    noon = ns(2026, 3, 29, 10)
    assert parse_time("yesterday 12:00", noon, BERLIN) == ns(2026, 3, 28, 11), "a day back on the calendar"
    assert parse_time("1d", noon, BERLIN) == ns(2026, 3, 28, 10), "24 hours back"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is empty"),
        ("tomorrow", "no time begins with 'tomorrow'"),
        ("25:00", "the hour 25 in 25:00 is above 23"),
        ("14:60", "the minute 60 in 14:60 is above 59"),
        ("yesterday 14:00:60", "the second 60"),
        ("yesterday noon", "a time of day looks like 14:00 or 14:00:05.25, not noon"),
        ("2026-02-30", "there is no day 2026-02-30"),
        ("2026-11-23T14:00:00+1", r"an offset from UTC looks like Z or \+01:00, not \+1"),
        ("2026-11-23T14:00:00+24:00", "an offset from UTC"),
        ("2026-11-23T14", "a time of day looks like .* not 14"),
        ("15x", "there is no unit 'x'; units are ms, s, m, h, d and w"),
        ("15", "'15' is neither a duration nor a time; write it like 15m"),
        ("1h30", "'30' is neither a duration"),
        ("1969-12-31T23:59:59Z", "between 1970 and 2261"),
        ("2500-01-01T00:00:00Z", "between 1970 and 2261"),
        ("0001-01-01", "between 1970 and 2261"),
        ("9999-12-31T23:59:59-23:00", "between 1970 and 2261"),
        ("3000w", "between 1970 and 2261"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(BadTime, match=complaint):
        parse_time(text, NOW, BERLIN)


@given(st.integers(0, 2**63 - 1), st.sampled_from([BERLIN, ZoneInfo("Asia/Kolkata"), None]))
def test_an_rfc_3339_time_comes_back_as_it_was(at: int, zone: ZoneInfo | None) -> None:
    assert parse_time(rfc3339(at), NOW, zone) == at


@given(st.integers(0, 3000), st.sampled_from(["ms", "s", "m", "h", "d"]), st.integers(0, 59))
def test_a_duration_counts_back_from_now(count: int, unit: str, seconds: int) -> None:
    length = {"ms": NS // 1000, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86400 * NS}[unit]
    assert parse_time(f"{count}{unit}{seconds}s ago", NOW, BERLIN) == NOW - count * length - seconds * NS


words = st.sampled_from(
    ["today", "yesterday", "14:00", "2026-11-23", "T", "15", "m", "ago", ":", "+", "-", "Z", " ", "."]
)


@given(st.one_of(st.text(max_size=30), st.lists(words, max_size=6).map("".join)))
def test_any_text_is_a_time_or_a_complaint(text: str) -> None:
    try:
        meant = parse_time(text, NOW, BERLIN)
    except BadTime:
        return
    assert 0 <= meant < 2**63
