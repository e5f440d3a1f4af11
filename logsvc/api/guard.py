"""Who is asking: from a request to a grant, or a refusal that tells nothing that the asker may not know."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import Final, NoReturn

from aiohttp import web

from logsvc import metrics
from logsvc.access.audit import audit
from logsvc.access.gate import Gate
from logsvc.access.grant import NAME, OPERATE, SCOPES, Grant
from logsvc.api.context import CONTEXT, LOCAL_TENANT, Access
from logsvc.api.problems import Problem, no_such_app
from logsvc.api.query import read_name
from logsvc.errors import BadToken, KeysAway
from logsvc.model import AppId

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GRANT: Final = web.RequestKey("grant", Grant)

TENANT_HEADER: Final = "Logsvc-Tenant"

_LOCAL: Final = Grant("local", LOCAL_TENANT, SCOPES - {OPERATE})
"""Where no tokens are asked for."""

_MINUTE: Final = 60.0


def guarded(scope: str, handler: Handler, *, also: str | None = None) -> Handler:
    """The handler for those whose token has the scope, or the one `also` named; it finds it as `request[GRANT]`."""

    async def guard(request: web.Request) -> web.StreamResponse:
        grant = await _admitted(request, scope, also)
        request[GRANT] = grant
        try:
            return await handler(request)
        except BadToken as error:  # it ended before the answer began
            _refuse_token(error)

    return guard


def app_of(request: web.Request) -> AppId:
    """The app that the URL names, which may not be there. Raises Problem.

    One that the token isn't for is answered as one that isn't there.
    """
    grant = request[GRANT]
    name = read_name("app", request.match_info["app"])
    if not grant.allows(name):
        raise no_such_app(name)
    return AppId(grant.tenant, name)


async def _admitted(request: web.Request, scope: str, also: str | None) -> Grant:
    access = request.app[CONTEXT].access
    if access.gate is None:
        return _chosen(_LOCAL, request)
    grant = await _verified(request, access, access.gate)
    if scope not in grant.scopes and also not in grant.scopes:
        metrics.auth_requests.labels("scope").inc()
        challenge = f'Bearer realm="logsvc", error="insufficient_scope", scope="{scope}"'
        raise Problem(403, f"This token lacks the scope {scope}.", headers={"WWW-Authenticate": challenge})
    grant = _chosen(grant, request)
    metrics.auth_requests.labels("admitted").inc()
    return grant


async def _verified(request: web.Request, access: Access, gate: Gate) -> Grant:
    token = _token(request)
    address = client_address(request, forwarded=access.forwarded)
    rate, most = access.failures / _MINUTE, float(access.failures)
    if not gate.knows(token) and (seconds := access.attempts.wait(address, rate, most)):
        metrics.auth_requests.labels("limited").inc()
        raise Problem(429, "Too many tokens from your address were not valid.", retry_after=seconds)
    try:
        return await gate.admit(token)
    except KeysAway as error:
        metrics.auth_requests.labels("away").inc()
        raise Problem(503, str(error), retry_after=5) from error
    except BadToken as error:
        access.attempts.take(address, 1.0, rate, most)
        _refuse_token(error)


def _token(request: web.Request) -> str:
    given = request.headers.getall("Authorization", [])
    kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if kind.lower() != "bearer" or not token.strip():
        _refuse("A token is needed, as Authorization: Bearer <token>.", 'Bearer realm="logsvc"')
    return token.strip()


def _refuse_token(error: BadToken) -> NoReturn:
    _refuse(str(error), 'Bearer realm="logsvc", error="invalid_token"')


def _refuse(detail: str, challenge: str) -> NoReturn:
    """RFC 6750, section 3."""
    metrics.auth_requests.labels("refused").inc()
    raise Problem(401, detail, headers={"WWW-Authenticate": challenge})


def _chosen(grant: Grant, request: web.Request) -> Grant:
    """The grant for the tenant that an operator has chosen."""
    given = request.headers.getall(TENANT_HEADER, [])
    if not given and grant.tenant:
        return grant
    tenant = given[0] if len(given) == 1 else ""
    if not NAME.fullmatch(tenant):
        raise Problem(400, f"{TENANT_HEADER}: name one tenant", parameter=TENANT_HEADER)
    if tenant == grant.tenant:
        return grant
    if OPERATE not in grant.scopes:
        raise Problem(403, f"Another tenant takes a token with the scope {OPERATE}.")
    route = request.match_info.route.resource
    audit(
        "operator",
        subject=grant.subject,
        tenant=tenant,
        method=request.method,
        route=route.canonical if route is not None else "",
        app=request.match_info.get("app", ""),
    )
    return replace(grant, tenant=tenant, operator=True)


def client_address(request: web.Request, *, forwarded: bool) -> str:
    """The client's address; of IPv6 the /64 that one subscriber has."""
    address = request.remote or ""
    if forwarded and (entries := request.headers.getall("X-Forwarded-For", [])):
        address = entries[-1].rpartition(",")[2].strip()
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
