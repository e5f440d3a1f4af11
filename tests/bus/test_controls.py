"""What operators say on the control topic is read as it was written; what others wrote there changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from logsvc.bus.controls import Controls, purge_record, revoked_key
from logsvc.model import AppId, Cursor
from logsvc.purges import Purge

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
number = st.integers(0, 1 << 40)


@given(st.builds(AppId, names, names), st.integers(1, 9), st.integers(0, 9999), number, number)
def test_a_purge_is_read_as_it_was_written(app: AppId, epoch: int, partition: int, before: int, at: int) -> None:
    purge = Purge(app, Cursor(epoch, partition, before, -1), at)
    controls = Controls()
    assert controls.apply(*purge_record(purge))
    assert controls.purges.since(0) == [purge]
    assert not controls.apply(*purge_record(purge))
    assert not controls.apply(purge_record(purge)[0], None), "what was removed doesn't come back"
    assert controls.purges.place(app) == purge.before


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.booleans()), max_size=20))
def test_what_is_revoked_is_what_was_said_last(said: list[tuple[str, bool]]) -> None:
    controls = Controls()
    heard: list[frozenset[str]] = []
    controls.follow_revoked(heard.append)
    for name, revoked in said:
        controls.apply(revoked_key(name), b"{}" if revoked else None)
    last = dict(said)
    assert controls.revoked == {name for name, revoked in last.items() if revoked} == heard[-1]


@given(st.binary(max_size=40) | st.sampled_from([b"purge/a/b", b"purge/a", b"revoked/", b"epoch/1/ab"]), st.binary())
def test_what_is_not_understood_is_passed_over(key: bytes, value: bytes) -> None:
    controls = Controls()
    if not key.startswith(b"revoked/"):
        assert not controls.apply(key, value)
    assert not controls.apply(None, value)
    assert controls.purges.since(0) == []


def test_a_purge_of_nonsense_is_none() -> None:
    controls = Controls()
    for value in (b"", b"{}", b"[]", b'{"epoch":"x","partition":1,"before":1,"at":1}', b"\xff"):
        assert not controls.apply(b"purge/acme/shop", value)
