"""Signed addresses: nobody makes or changes one, each holds for its time, and keys change."""

import base64
import re
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.access.sessions import Session, Sessions
from logsvc.errors import BadToken

OLD, NEW = b"o" * 32, b"n" * 32
SESSION = Session(
    id="7",
    tenant="acme",
    app="shop",
    ps="",
    process="web",
    source="",
    lines=100,
    tail=True,
    created=1000.0,
    subject="anna",
    plan="pro",
    token="jti",
    root="key:1",
    expires=None,
)


def test_what_was_signed_is_read_until_its_time_is_over() -> None:
    now = 1000.0
    sessions = Sessions([NEW], idle=300, most=3600, now=lambda: now)
    address = sessions.sign(SESSION)
    assert sessions.read(address) == SESSION
    now = 1300.0
    assert sessions.read(address) == SESSION
    now = 1301.0
    with pytest.raises(BadToken):
        sessions.read(address)


def test_a_client_that_is_cut_may_come_back_until_the_hour_is_over() -> None:
    """At whichever process: each of them made this moment knows as much."""
    now = 1000.0
    address = Sessions([NEW], now=lambda: now).sign(SESSION)
    now = 4600.0
    assert Sessions([NEW], idle=300, most=3600, now=lambda: now).read(address, resumed=True) == SESSION
    with pytest.raises(BadToken):
        Sessions([NEW], idle=300, most=3600, now=lambda: now).read(address)
    now = 4601.0
    with pytest.raises(BadToken):
        Sessions([NEW], idle=300, most=3600, now=lambda: now).read(address, resumed=True)


def test_keys_rotate() -> None:
    before = Sessions([OLD], now=lambda: 1000.0).sign(SESSION)
    both = Sessions([NEW, OLD], now=lambda: 1000.0)
    assert both.read(before) == SESSION
    with pytest.raises(BadToken):
        Sessions([NEW], now=lambda: 1000.0).read(before)
    assert Sessions([NEW], now=lambda: 1000.0).read(both.sign(SESSION)) == SESSION
    with pytest.raises(BadToken):
        Sessions().read(Sessions().sign(SESSION))


def test_an_address_shows_nothing_of_what_it_is_for() -> None:
    """It gets into histories, and into logs of proxies."""
    shown = replace(SESSION, subject="anna@example.com", root="token:sha256:9f86d081884c7d65")
    address = Sessions([NEW], now=lambda: 1000.0).sign(shown)
    plain = base64.urlsafe_b64decode(address + "=" * (-len(address) % 4))
    for word in (b"acme", b"shop", b"anna", b"9f86d0", b"token", b"pro"):
        assert word not in plain
    assert re.fullmatch("[A-Za-z0-9_-]+", address), "one segment of a path, as it is"


@given(st.data())
def test_an_address_that_was_changed_anywhere_opens_nothing_else(data: st.DataObject) -> None:
    """Base64 may have bits at its end that mean nothing."""
    sessions = Sessions([NEW], now=lambda: 1000.0)
    address = sessions.sign(SESSION)
    at = data.draw(st.integers(0, len(address) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != address[at]))
    changed = address[:at] + other + address[at + 1 :]
    if at < len(address) - 1:
        with pytest.raises(BadToken):
            sessions.read(changed)
    else:
        with suppress(BadToken):
            assert sessions.read(changed) == SESSION


@given(st.text())
def test_whatever_was_not_signed_is_refused(text: str) -> None:
    sessions = Sessions([NEW], now=lambda: 1000.0)
    for address in (text, f"gAAAAA{text}", f"{text}=", base64.urlsafe_b64encode(text.encode()).decode()):
        with pytest.raises(BadToken):
            sessions.read(address)
