"""What goes on for long ends at the second when its grant does, and when it is taken away."""

import asyncio
import time
from pathlib import Path

import pytest

from logsvc.access.gate import Gate
from logsvc.access.grant import READ, Grant
from logsvc.access.jwts import KeySet, Rules
from logsvc.access.leases import Leases
from logsvc.access.static import mint
from logsvc.config import Auth
from logsvc.errors import BadToken
from tests.api.guarded import replace
from tests.support.tokens import AUDIENCE, Issuer
from tests.support.wait import DEADLINE


def grant(name: str, expires: float | None = None) -> Grant:
    return Grant(name, "acme", frozenset({READ}), expires=expires)


@pytest.mark.parametrize(("expires", "until", "ends"), [(100, None, 100), (None, 50, 50), (100, 50, 50), (50, 100, 50)])
async def test_it_ends_when_the_grant_does_or_earlier(expires: float | None, until: float | None, ends: float) -> None:
    """The end is set to the second, so nothing is left to a look now and then."""
    leases = Leases()
    wall, loop = time.time(), asyncio.get_running_loop().time()
    absolute = [None if seconds is None else wall + seconds for seconds in (expires, until)]
    async with leases.hold(grant("anna", absolute[0]), until=absolute[1]):
        (limit,) = leases._held
        when = limit.when()
        assert when is not None
        assert loop + ends - 0.01 <= when <= asyncio.get_running_loop().time() + ends + 0.01
    assert not leases._held


@pytest.mark.parametrize(("expires", "until"), [(-1, None), (100, -1), (None, None)])
async def test_what_has_ended_before_it_began_is_refused(expires: float | None, until: float | None) -> None:
    leases = Leases()
    leases.holds = lambda _: expires is not None
    absolute = [None if seconds is None else time.time() + seconds for seconds in (expires, until)]
    with pytest.raises(BadToken):
        async with leases.hold(grant("anna", absolute[0]), until=absolute[1]):
            pass
    assert not leases._held


async def test_one_that_is_taken_away_ends_at_once_and_no_other_does() -> None:
    leases = Leases()
    held, go_on = asyncio.Event(), asyncio.Event()

    async def other() -> bool:
        async with leases.hold(grant("other")) as lease:
            held.set()
            await go_on.wait()
        return lease.over

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        others = tasks.create_task(other())
        await held.wait()
        async with leases.hold(grant("anna")) as lease:
            leases.holds = lambda grant: grant.subject == "other"
            leases.review()
            await asyncio.Event().wait()
        assert lease.over
        go_on.set()
    assert others.result() is False


@pytest.mark.parametrize("file", ["revoked", "tokens", "jwks"])
async def test_what_is_taken_away_in_a_file_ends_within_five_seconds(tmp_path: Path, file: str) -> None:
    """By a clock that goes on only while nobody looks."""
    clock = 0.0

    async def pause(seconds: float) -> None:
        nonlocal clock
        clock += seconds
        await asyncio.sleep(0)

    issuer, leases = Issuer(), Leases()
    token, entry = mint("ci", "acme", [READ], [])
    said = {"revoked": b"", "tokens": entry.encode(), "jwks": issuer.jwks()}
    for name, data in said.items():
        (tmp_path / name).write_bytes(data)
    settings = Auth(
        jwks=str(tmp_path / "jwks"),
        audience=AUDIENCE,
        tokens_file=str(tmp_path / "tokens"),
        revoked_file=str(tmp_path / "revoked"),
    )
    async with Gate.open(settings, leases, pause) as gate:
        given = await gate.admit(issuer.token(jti="mine") if file == "jwks" else token)
        async with asyncio.timeout(DEADLINE), leases.hold(given) as lease:
            begun = clock
            replace(tmp_path / file, {"revoked": b"ci", "tokens": b"", "jwks": Issuer().jwks()}[file])
            await asyncio.Event().wait()
    assert lease.over
    assert clock - begun <= 5


@pytest.mark.parametrize("leeway", [0, 3, 300])
def test_a_token_ends_within_five_seconds_of_what_it_says_however_much_clocks_may_differ(leeway: float) -> None:
    issuer, expires = Issuer(), time.time() + 60
    given = KeySet.parse(issuer.jwks()).verify(issuer.token(exp=expires), Rules(AUDIENCE, leeway=leeway))
    assert given.expires is not None
    assert 0 <= given.expires - expires <= 5
