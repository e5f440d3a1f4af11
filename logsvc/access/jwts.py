"""JSON Web Tokens (RFC 7519), signed with a key of a JWK set (RFC 7517). No I/O.

Only asymmetric signatures count, and of each key only its own algorithm: a header that says `none`, or that takes a
public key for the secret of an HMAC, is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import jwt

from logsvc.access.grant import NAME, OPERATE, SCOPES, Grant
from logsvc.errors import BadToken, FormatError

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

LATEST: Final = 4.0
"""Most seconds that a token outlives its `exp`, however much clocks may differ: its tails end within 5."""


class UnknownKey(BadToken):
    """The key that a token names is not in the set; a newer set may have it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say, and which of its claims say what."""

    audience: str
    issuer: str = ""
    leeway: float = 3.0
    """Seconds that clocks may differ."""
    tenant_claim: str = "tenant"
    apps_claim: str = "apps"
    scope_claim: str = "scope"
    plan_claim: str = "plan"


class KeySet:
    """Public keys by their id.

    What stands on a key stands on its digest: ids are given anew, and a set with one key needs none.
    """

    def __init__(self, keys: Mapping[str, jwt.PyJWK]) -> None:
        self._keys = dict(keys)
        self._digests = {kid: _digest(key) for kid, key in self._keys.items()}

    @classmethod
    def parse(cls, document: bytes) -> "KeySet":
        """A JWK set. Keys that can't be used are passed over. Raises FormatError where none is left."""
        try:
            found = jwt.PyJWKSet.from_json(document.decode())
        except (ValueError, AttributeError, jwt.PyJWTError) as error:
            raise FormatError("not a JWK set with a usable key") from error
        keys = {key.key_id or "": key for key in found.keys if key.algorithm_name in ALGORITHMS}
        if not keys:
            raise FormatError("the JWK set has no public key for signatures")
        return cls(keys)

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests.values()

    def verify(self, token: str, rules: Rules) -> Grant:
        """What a token grants. Raises BadToken, and of that UnknownKey, with a sentence that holds nothing of it."""
        kid, key = self._key(token)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=rules.audience,
                issuer=rules.issuer or None,
                leeway=rules.leeway,
                options={"require": ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise BadToken("The token has expired.") from None
        except jwt.InvalidAudienceError:
            raise BadToken("The token is for another service.") from None
        except jwt.PyJWTError:
            raise BadToken("The token is not valid.") from None
        return _grant(claims, rules, self._digests[kid])

    def _key(self, token: str) -> tuple[str, jwt.PyJWK]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, AttributeError):
            raise BadToken("The token is not valid.") from None
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.items()))
        if not isinstance(kid, str) or kid not in self._keys:
            raise UnknownKey("The token is not valid.")
        return kid, self._keys[kid]


def _digest(key: jwt.PyJWK) -> str:
    return sha256(str(key.Algorithm.to_jwk(key.key)).encode()).hexdigest()


def _grant(claims: Mapping[str, Any], rules: Rules, digest: str) -> Grant:
    tenant, apps = claims.get(rules.tenant_claim, ""), claims.get(rules.apps_claim)
    scopes = read_scopes(claims.get(rules.scope_claim, ()))
    if tenant == "" and OPERATE not in scopes:
        raise BadToken(f"The token names no tenant (claim {rules.tenant_claim}).")
    return Grant(
        subject=str(claims.get("sub", "")),
        tenant=read_tenant(tenant),
        scopes=scopes,
        apps=read_apps(apps),
        plan=str(claims.get(rules.plan_claim, "")),
        expires=float(claims["exp"]) + min(rules.leeway, LATEST),
        id=str(claims.get("jti", "")),
        root=f"key:{digest}",
    )


def read_tenant(tenant: object) -> str:
    """Empty for an operator. Raises BadToken."""
    if not isinstance(tenant, str) or (tenant and not NAME.fullmatch(tenant)):
        raise BadToken("The token's tenant is not a name.")
    return tenant


def read_scopes(given: object) -> frozenset[str]:
    """Those that mean something here, of a text with spaces between (RFC 8693) or a list."""
    words = given.split() if isinstance(given, str) else given
    if not isinstance(words, (list, tuple)):
        raise BadToken("The token's scopes are neither a text nor a list.")
    return SCOPES.intersection(word for word in words if isinstance(word, str))


def read_apps(given: object) -> frozenset[str] | None:
    """None for all. Raises BadToken for what isn't a list of names: taking that for all would grant too much."""
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise BadToken("The token's apps are not a list of names.")
    return frozenset(given)
