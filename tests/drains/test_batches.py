"""Frames' worth of lines: cut where they fit, and nothing left out between two of them."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logsvc.drains.batches import Batch, cut
from logsvc.model import Cursor, Selection
from tests.support.lines import selections

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine takes long to make chunks."""


@PATIENT
@given(selection=selections(), room=st.integers(0, 400))
def test_a_selection_is_cut_between_two_lines(selection: Selection, room: int) -> None:
    taken, rest = cut(selection, room)
    assert len(taken.numbers) == taken.value.count(b"\n") > 0
    assert len(taken.value) <= room or len(taken.numbers) == 1
    if rest is None:
        assert taken == selection
        return
    assert len(rest.numbers) == rest.value.count(b"\n") > 0
    assert taken.value + rest.value == selection.value
    assert [*taken.numbers, *rest.numbers] == list(selection.numbers)
    line = rest.value.index(b"\n") + 1
    assert len(taken.value) + line > room


@PATIENT
@given(chosen=st.lists(selections(), min_size=1, max_size=4), most=st.integers(1, 400))
def test_a_batch_ends_behind_the_last_line_that_it_took(chosen: list[Selection], most: int) -> None:
    batch = Batch(Cursor(1, 2, 0, -1), most)
    for selection in chosen:
        rest = batch.take(selection)
        taken = batch.selections[-1]
        assert batch.last == taken.chunk.cursor(taken.numbers[-1])
        assert batch.lines == sum(len(each.numbers) for each in batch.selections)
        if rest is not None:
            assert batch.full
        if batch.full:
            break
    if not batch.full:
        assert sum(len(each.value) for each in batch.selections) < most
