"""What somebody may do, once it is known who they are. No I/O."""

import re
from dataclasses import dataclass
from typing import Final

READ: Final = "logs:read"
WRITE: Final = "logs:write"
DRAINS: Final = "drains:write"
OPERATE: Final = "logs:operate"
"""May choose any tenant, by the header Logsvc-Tenant; every use is audited."""

SCOPES: Final = frozenset({READ, WRITE, DRAINS, OPERATE})

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
"""The name of a tenant, app, process or dyno."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token, or a signed address, lets its holder do."""

    subject: str
    """Who: for the audit log."""
    tenant: str
    """Whose apps may be named; empty for an operator, who has to choose."""
    scopes: frozenset[str]
    apps: frozenset[str] | None = None
    """Names of the apps that may be named; None for all of the tenant."""
    plan: str = ""
    """Says which limits hold; empty for the default."""
    expires: float | None = None
    """Unix s from which on it holds no more."""
    id: str = ""
    """What it is revoked by: a JWT's `jti`, a static token's name."""
    root: str = ""
    """What it stands on: `key:` or `token:`, and its SHA-256. When that goes, the grant goes."""
    operator: bool = False
    """Whether the tenant is another one, whom an operator has chosen."""

    @property
    def payer(self) -> str:
        """Whose limits are used up: the tenant's, but an operator's own where it was chosen."""
        return f"operator {self.subject}" if self.operator else self.tenant  # no tenant has a space in its name

    def allows(self, app: str) -> bool:
        return self.apps is None or app in self.apps
