"""Positions of drains: what is written down is read again, whatever came of the frames before."""

from hypothesis import given
from hypothesis import strategies as st

from logsvc.drains.model import Drain, Lost, Position, Told
from logsvc.model import AppId, Cursor

CURSORS = st.builds(Cursor, st.integers(1, 3), st.just(4), st.integers(0, 1 << 40), st.integers(-1, 5000))
LOSSES = st.none() | st.builds(Lost, st.integers(1, 1 << 40), st.integers(0, 1 << 32))
TOLD = st.none() | st.builds(Told, st.integers(0, 1 << 32), st.booleans())


@st.composite
def positions(draw: st.DrawFn) -> Position:
    """As deliveries make them: frames are begun one behind the other, and settled in any order."""
    first, *places = sorted(draw(st.sets(CURSORS, min_size=1, max_size=8)))
    position = Position(first, lost=draw(LOSSES), told=draw(TOLD))
    for place in places:
        position, _ = position.begin(position.read, place, "drain")
        if draw(st.booleans()):
            position = position.settle(draw(st.sampled_from(position.pending)))
    return position


@given(position=positions())
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    assert Position.parse(position.encode()) == position


@given(position=positions())
def test_what_is_pending_is_in_the_order_of_the_log_and_behind_all_that_is_settled(position: Position) -> None:
    places = [place for frame in position.pending for place in (frame.first, frame.last)]
    assert places == sorted(places)
    assert position.oldest <= position.read
    assert all(position.oldest <= place <= position.read for place in places)
    assert len({frame.id for frame in position.pending}) == len(position.pending)


@given(one=LOSSES.filter(bool), other=LOSSES)
def test_what_was_lost_twice_is_counted_together_from_the_earlier_on(one: Lost, other: Lost | None) -> None:
    both = one.and_also(other)
    assert both.lines == one.lines + (other.lines if other else 0)
    assert both.since == min(each.since for each in (one, other) if each)


def test_a_loss_is_said_by_the_next_frame_and_once() -> None:
    position, frame = Position(Cursor(1, 0, 0, -1), lost=Lost(3, 5)).begin(Cursor(1, 0, 0, -1), Cursor(1, 0, 4, 1), "x")
    assert (frame.lost, position.lost) == (Lost(3, 5), None)


def test_a_position_from_before_it_said_what_was_told_is_read() -> None:
    position = Position(Cursor(1, 0, 4, 1))
    assert Position.parse(position.encode().replace(b',"told":null', b"")) == position


def test_a_drain_from_before_there_was_another_order_keeps_it() -> None:
    made = Drain.new(AppId("acme", "shop"), "https://logs.example.com", Cursor(1, 0, 0, -1), 1_795_000_000)
    written = made.encode().replace(b',"ordered":true', b"")
    assert b"ordered" not in written
    assert Drain.parse(written) == made
