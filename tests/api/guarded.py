"""A service that asks for tokens."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logsvc.access.gate import Gate
from logsvc.api.context import Access
from logsvc.config import Auth
from logsvc.store.protocol import Store
from tests.api.served import Served, serving
from tests.support.tokens import AUDIENCE, Issuer


@dataclass
class Guarded:
    """A service that asks for tokens, its issuer, and its file of what was revoked."""

    served: Served
    issuer: Issuer
    jwks: Path
    tokens: Path
    revoked: Path

    def header(self, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.token(**claims)}"}

    def get(self, path: str = "", **claims: Any) -> Any:
        return self.served.client.get(self.served.logs + path, headers=self.header(**claims))

    async def counted(self, name: str, reason: str) -> float:
        """What a counter of the service shows for a reason."""
        async with self.served.client.get(f"{self.served.url}/metrics") as response:
            found = re.search(rf'^logsvc_{name}_total{{reason="{reason}"}} (\S+)$', await response.text(), re.MULTILINE)
        return float(found[1]) if found is not None else 0.0

    def publish(self) -> None:
        replace(self.jwks, self.issuer.jwks())


def replace(path: Path, data: bytes) -> None:
    """As one step, for the service may look at any moment."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


@asynccontextmanager
async def guarded(store: Store, folder: Path, **settings: Any) -> AsyncIterator[Guarded]:
    issuer = Issuer()
    jwks, tokens, revoked = folder / "jwks", folder / "tokens", folder / "revoked"
    jwks.write_bytes(issuer.jwks())
    tokens.write_text("")
    revoked.write_text("")
    auth = Auth(
        **{
            "jwks": str(jwks),
            "audience": AUDIENCE,
            "tokens_file": str(tokens),
            "revoked_file": str(revoked),
            "leeway": 0.0,
            **settings,
        }
    )
    async with AsyncExitStack() as stack:
        access = Access(failures=auth.failures)
        access.gate = await stack.enter_async_context(Gate.open(auth, access.leases))
        served = await stack.enter_async_context(serving(store, access=access))
        yield Guarded(served, issuer, jwks, tokens, revoked)
