"""JSON Web Tokens: who signed them, for whom, until when, and what they grant."""

import base64
import hmac
import time
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from logsvc.access.jwts import KeySet, Rules, UnknownKey
from logsvc.errors import BadToken, FormatError
from tests.support.tokens import AUDIENCE, Issuer

RULES = Rules(AUDIENCE)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
def test_a_token_grants_what_it_says(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    expires = time.time() + 60
    token = issuer.token(exp=expires, tenant="acme", apps=["shop"], scope="logs:read other", plan="pro", jti="7")
    grant = KeySet.parse(issuer.jwks()).verify(token, RULES)
    assert (grant.subject, grant.tenant, grant.apps, grant.scopes) == (
        "anna",
        "acme",
        frozenset({"shop"}),
        frozenset({"logs:read"}),
    )
    assert (grant.plan, grant.id) == ("pro", "7")
    assert grant.expires == pytest.approx(expires + RULES.leeway)


def test_claims_have_the_names_that_the_settings_say(issuer: Issuer) -> None:
    rules = Rules(AUDIENCE, tenant_claim="org", apps_claim="sites", scope_claim="scp", plan_claim="tier")
    token = issuer.token(tenant=None, org="acme", sites=["a"], scope=None, scp=["logs:write"], tier="free")
    grant = KeySet.parse(issuer.jwks()).verify(token, rules)
    assert (grant.tenant, grant.apps, grant.scopes, grant.plan) == ("acme", {"a"}, {"logs:write"}, "free")


@pytest.mark.parametrize(
    "claims",
    [
        {"seconds": -10},
        {"exp": None},
        {"aud": None},
        {"aud": "billing"},
        {"nbf": time.time() + 3600},
        {"iss": "https://evil.example"},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "a/b"},
        {"tenant": "a\nb"},
        {"tenant": ["acme"]},
        {"tenant": 7},
        {"apps": "shop"},
        {"apps": [7]},
        {"apps": {}},
        {"scope": 7},
        {"scope": {"logs:read": True}},
    ],
)
def test_a_token_that_says_something_else_is_refused(issuer: Issuer, claims: dict[str, Any]) -> None:
    rules = Rules(AUDIENCE, issuer="https://id.example")
    token = issuer.token(**{"iss": "https://id.example", **claims})
    with pytest.raises(BadToken):
        KeySet.parse(issuer.jwks()).verify(token, rules)


def test_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    keys = KeySet.parse(issuer.jwks())
    assert keys.verify(issuer.token(seconds=-5, nbf=time.time() + 5), Rules(AUDIENCE, leeway=10)).subject == "anna"
    with pytest.raises(BadToken):
        keys.verify(issuer.token(seconds=-5), Rules(AUDIENCE, leeway=1))


def test_an_operator_needs_no_tenant(issuer: Issuer) -> None:
    token = issuer.token(tenant=None, scope="logs:read logs:operate")
    assert KeySet.parse(issuer.jwks()).verify(token, RULES).tenant == ""


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (orjson.dumps(header), orjson.dumps(claims), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def with_hmac(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    signed = unsigned(header, claims).rstrip(".")
    return f"{signed}.{base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), 'sha256')).rstrip(b'=').decode()}"


def test_a_signature_cannot_be_left_out_or_made_with_the_public_key(issuer: Issuer) -> None:
    keys = KeySet.parse(issuer.jwks())
    claims = {"aud": AUDIENCE, "exp": time.time() + 60, "tenant": "acme", "scope": "logs:read"}
    public = issuer.private().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forged = [
        unsigned({"alg": "none", "kid": issuer.kid}, claims),
        unsigned({"alg": "NONE", "kid": issuer.kid}, claims, b"x"),
        unsigned({"kid": issuer.kid}, claims, b"x" * 64),
        with_hmac({"alg": "HS256", "kid": issuer.kid}, claims, public),
        unsigned({"alg": "RS256", "kid": issuer.kid}, claims, b"x" * 256),
        Issuer().token(headers={"kid": issuer.kid}),
        Issuer().token(headers={"jwk": {"kty": "oct", "k": "AAAA"}, "jku": "https://evil.example"}),
    ]
    for token in forged:
        with pytest.raises(BadToken):
            keys.verify(token, RULES)


def test_a_token_of_a_key_that_is_not_in_the_set_is_told_apart(issuer: Issuer) -> None:
    keys = KeySet.parse(issuer.jwks())
    with pytest.raises(UnknownKey):
        keys.verify(issuer.token(headers={"kid": "another"}), RULES)
    other = Issuer()
    other.rotate()
    with pytest.raises(UnknownKey):  # with two keys it must say which
        KeySet.parse(other.jwks()).verify(other.token(headers={"kid": None}), RULES)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        KeySet.parse(KEYS).verify(text, RULES)


KEYS = Issuer().jwks()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a","alg":"HS256"}]}',
        b'{"keys":[{"kty":"EC"}]}',
        b"null",
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(document: bytes) -> None:
    with pytest.raises(FormatError):
        KeySet.parse(document)
