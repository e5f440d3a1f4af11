"""Rates: so much at once, then so much a second, each name for itself."""

from logsvc.buckets import Buckets


def test_what_is_taken_comes_back_at_the_rate() -> None:
    now = 1000.0
    buckets = Buckets(lambda: now)
    assert buckets.wait("a", rate=2, most=10) == 0
    assert buckets.take("a", 10, rate=2, most=10) == 0
    assert buckets.wait("a", rate=2, most=10) == 0.5
    assert buckets.take("a", 4, rate=2, most=10) == 2
    assert buckets.wait("b", rate=2, most=10) == 0
    now += 2.5
    assert buckets.wait("a", rate=2, most=10) == 0
    now += 1000
    assert buckets.take("a", 10, rate=2, most=10) == 0
    assert buckets.take("a", 1, rate=2, most=10) == 0.5


def test_names_are_forgotten_rather_than_kept_for_ever() -> None:
    buckets = Buckets(lambda: 0.0)
    for number in range(20_000):
        buckets.take(str(number), 1, rate=1, most=1)
    assert len(buckets._filled) == 10_000
