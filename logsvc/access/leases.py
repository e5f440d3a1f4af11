"""Ends what goes on for long when the grant that it stands on ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from logsvc import metrics
from logsvc.access.grant import Grant
from logsvc.errors import BadToken

_CLOCKS: Final = 0.5
"""Seconds by which a timer may fire before the wall clock says so."""


class Lease:
    """A grant in use. `over` says afterwards whether it ended before the work did."""

    over = False


class Leases:
    """All that are held in this process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._held: dict[asyncio.Timeout, Grant] = {}
        self.holds: Callable[[Grant], bool] = lambda _: True
        """Whether nobody has taken a grant away; whoever knows sets this."""

    @asynccontextmanager
    async def hold(self, grant: Grant, *, until: float | None = None) -> AsyncIterator[Lease]:
        """Work on a grant: the block is cancelled when that expires or is ended, or at `until` (Unix s).

        Cancelled so, the block ends without an error, and the lease says that it is over. Raises BadToken where that
        was before it has begun: since a request was admitted a search may have taken long.
        """
        ends = min((at for at in (grant.expires, until) if at is not None), default=None)
        if (ends is not None and time.time() >= ends) or not self.holds(grant):
            raise BadToken("The token or log session has ended.")
        lease = Lease()
        limit = asyncio.timeout(None if ends is None else max(0.0, ends - time.time()))
        try:
            async with limit:
                self._held[limit] = grant
                yield lease
        except TimeoutError:
            if not limit.expired():
                raise
            lease.over = True
            reason = "expired" if ends is not None and time.time() >= ends - _CLOCKS else "revoked"
            metrics.leases_ended.labels(reason).inc()
        finally:
            self._held.pop(limit, None)

    def review(self) -> None:
        """End the leases on grants that no longer hold."""
        now = asyncio.get_running_loop().time()
        ended = [limit for limit, grant in self._held.items() if not self.holds(grant) and not limit.expired()]
        for limit in ended:
            limit.reschedule(now)
