"""How much of a tenant's lines is collected in a second. What is beyond that waits where it is: in its file."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Generic, TypeVar

from logsvc.buckets import Buckets

T = TypeVar("T", bound=Hashable)

_APART: Final = 0.01
"""Seconds between two of a tenant's who may go on."""

_LOOK: Final = 1.0
"""Most seconds until somebody looks again, as the plan may be another one by then."""


def _nobodys(tenant: str) -> str:
    del tenant
    return ""


class Quota:
    """Bytes a second and at once, by a tenant's plan. Counted in this process."""

    def __init__(
        self,
        rates: Mapping[str, float] | None = None,
        seconds: float = 60.0,
        *,
        default: str = "",
        plan: Callable[[str], str] = _nobodys,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rates`: bytes a second by plan, of which `seconds` worth may come at once; those of the plan `default` for a
        plan without, and no limit where that has none either. `plan` names a tenant's.
        """
        self._rates = rates or {}
        self._seconds = seconds
        self._default = default
        self._plan = plan
        self._buckets = Buckets(now)

    def _rate(self, tenant: str) -> float | None:
        return self._rates.get(self._plan(tenant), self._rates.get(self._default)) if self._rates else None

    def wait(self, tenant: str) -> float:
        """Seconds until more of a tenant may be read; 0 for now."""
        rate = self._rate(tenant)
        return 0.0 if rate is None else self._buckets.wait(tenant, rate, rate * self._seconds)

    def take(self, tenant: str, size: int) -> None:
        """Count what was read of a tenant, which may be more than there was."""
        rate = self._rate(tenant)
        if rate is not None:
            self._buckets.take(tenant, size, rate, rate * self._seconds)

    async def until_paid(self, tenant: str) -> None:
        """Wait until more of a tenant may be read."""
        while wait := self.wait(tenant):  # noqa: ASYNC110 - what is waited for is time
            await asyncio.sleep(min(wait, _LOOK))


class Queue(Generic[T]):
    """Those who wait for their tenants' quotas, each tenant's in the order in which they came."""

    def __init__(self, quota: Quota, proceed: Callable[[T], None]) -> None:
        """`proceed` is called when one may try again."""
        self._quota = quota
        self._proceed = proceed
        self._waiting: dict[str, deque[T]] = {}
        self._tenants: dict[T, str] = {}

    def __contains__(self, who: T) -> bool:
        return who in self._tenants

    def __len__(self) -> int:
        return len(self._tenants)

    def add(self, tenant: str, who: T) -> None:
        """Have one wait who doesn't yet."""
        self._tenants[who] = tenant
        waiting = self._waiting.get(tenant)
        if waiting is None:
            waiting = self._waiting[tenant] = deque()
            self._later(tenant)
        waiting.append(who)

    def discard(self, who: T) -> None:
        """One doesn't wait any more."""
        tenant = self._tenants.pop(who, None)
        if tenant is not None:
            self._waiting[tenant].remove(who)

    def _later(self, tenant: str) -> None:
        pause = min(max(self._quota.wait(tenant), _APART), _LOOK)
        asyncio.get_running_loop().call_later(pause, self._next, tenant)

    def _next(self, tenant: str) -> None:
        waiting = self._waiting[tenant]
        if waiting and not self._quota.wait(tenant):
            who = waiting.popleft()
            del self._tenants[who]
            self._proceed(who)
        if waiting:
            self._later(tenant)
        else:
            del self._waiting[tenant]
