"""Limits by tenant and plan: over one it is refused, and nobody else notices."""

import pytest

from logsvc.access.buckets import Buckets
from logsvc.access.grant import READ, Grant
from logsvc.access.limits import Limits, Plan
from logsvc.config import Limits as Settings
from logsvc.errors import OverLimit


def grant(tenant: str = "acme", plan: str = "free") -> Grant:
    return Grant("anna", tenant, frozenset({READ}), plan=plan)


def test_a_plan_says_what_may_be_had_and_the_default_what_nobody_said() -> None:
    settings = Settings(
        default="free",
        tails={"free": 1, "pro": 9},
        query_seconds={"free": 2.0},
        read_bytes={"free": 1000},
        push_bytes={"free": 10},
        retention={"pro": 3},
    )
    limits = Limits(settings)
    assert limits.plan(grant()) == Plan(1, 2.0, 1000, 10, 0)
    assert limits.plan(grant(plan="pro")) == Plan(9, None, None, None, 3)
    assert limits.plan(grant(plan="unknown")) == limits.plan(grant(plan="")) == limits.plan(grant())
    assert Limits().plan(grant()) == Plan()


def test_tails_are_counted_by_tenant() -> None:
    limits = Limits(Settings(tails={"standard": 2, "free": 2}))
    with limits.tail(grant()), limits.tail(grant()):
        with pytest.raises(OverLimit) as refused, limits.tail(grant()):
            pass  # pragma: no cover
        assert refused.value.retry_after > 0
        with limits.tail(grant("other")):
            pass
    with limits.tail(grant()):
        pass
    assert not limits._tails


def test_pushing_is_paced_and_refused_where_it_goes_on() -> None:
    now = 0.0
    limits = Limits(Settings(push_bytes={"free": 100}), Buckets(lambda: now))
    limits.admit_push(grant())
    assert limits.pushed(grant(), 1000) == 0
    assert limits.pushed(grant(), 50) == 0.5
    with pytest.raises(OverLimit):
        limits.admit_push(grant())
    limits.admit_push(grant("other"))
    now = 1.0
    limits.admit_push(grant())
    assert Limits().pushed(grant(), 10**12) == 0
