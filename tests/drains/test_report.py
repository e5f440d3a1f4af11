"""What a drain's delivery says of itself, and what it may cost."""

from logsvc.drains.report import Counting


def test_counts_take_turns_and_rest_for_longer_than_they_took() -> None:
    now = 0.0
    counting = Counting(lambda: now)
    assert counting.free
    with counting.turn():
        assert not counting.free
        now = 2.0
    assert not counting.free
    now = 41.9
    assert not counting.free
    now = 42.0
    assert counting.free
