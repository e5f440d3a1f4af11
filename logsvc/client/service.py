"""HTTP to the service: requests that stream, and answers sorted into go on, try again and give up."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError, SSLError

from logsvc.client.settings import Settings
from logsvc.errors import ClientError, Refused, Unavailable
from logsvc.formats.terminal import plain

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 45.0
"""Seconds without a byte after which a connection counts as dead: three heartbeats."""

_READ: Final = 256 * 1024
_MAX_PROBLEM: Final = 64 * 1024
_MAX_WAIT: Final = 300.0
_FLAGS: Final = {
    "process": "--process-type",
    "dyno": "--dyno-name",
    "not_process": "--not-process-type",
    "not_dyno": "--not-dyno-name",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("num", "tail", "since", "until", "source", "stream", "not_source", "not_stream"),
        *("grep", "grep_re", "exclude", "exclude_re", "ignore_case"),
    )
}
"""What the parameters of the API are called on the command line."""

Parameters = Sequence[tuple[str, str]]


class Answer:
    """A 2xx answer whose body is still coming."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.cursor = response.headers.get("Logsvc-Cursor")

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes, until it ends. Raises Unavailable where it breaks off or nothing comes for long."""
        with _translated("the connection was lost", answered=True):
            while data := self._response.read1(_READ):
                yield data

    def interrupt(self) -> None:
        """End `pieces`, from another thread."""
        with suppress(ValueError, RuntimeError, OSError):
            self._response.shutdown()


class Service:
    """The service at one place, for one user."""

    def __init__(self, settings: Settings, *, read_timeout: float = READ_TIMEOUT) -> None:
        self.url = settings.url
        self._headers = {"User-Agent": "paas"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        if not settings.local:
            self._headers["Accept-Encoding"] = "gzip"
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    @contextmanager
    def read(self, path: str, parameters: Parameters, headers: dict[str, str]) -> Iterator[Answer]:
        """GET, with the body left to `Answer.pieces`. Raises Refused, Unavailable or ClientError."""
        response = self._request("GET", path, parameters, headers)
        try:
            yield Answer(response)
        finally:
            response.close()

    def post(self, path: str, parameters: Parameters, headers: dict[str, str], body: bytes) -> None:
        """POST and wait for the 2xx. Raises Refused, Unavailable or ClientError."""
        self._request("POST", path, parameters, headers, body).drain_conn()

    def ask(self, method: str, path: str, parameters: Parameters = (), body: object = None) -> Any:
        """Ask a question in JSON, or none, and return the answer's JSON. Raises Refused, Unavailable or ClientError."""
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = orjson.dumps(body)
        response = self._request(method, path, parameters, headers, data)
        with _translated("the connection was lost", answered=True):
            answer = response.read()
        try:
            return orjson.loads(answer)
        except ValueError:
            raise ClientError(f"{self.url} answers as logsvc never would: is the service there?") from None

    def _request(
        self, method: str, path: str, parameters: Parameters, headers: dict[str, str], body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """An answer that is 2xx, its body still to be read."""
        url = f"{self.url}{path}?{urlencode(parameters)}" if parameters else self.url + path
        with _translated(f"can't reach {self.url}", answered=False):
            response = self._pool.request(
                method, url, body=body, headers=self._headers | headers, preload_content=False, redirect=False
            )
        if 200 <= response.status < 300:
            return response
        refusal = _refusal(response)
        response.close()
        raise refusal


class Backoff:
    """How long to wait before the next try: doubling from `base` to `most` seconds, the upper half of it by chance."""

    def __init__(self, base: float = 0.5, most: float = 5.0) -> None:
        self.base = base
        self.tries = 0
        self._most = most
        self._random = random.Random()  # noqa: S311 - spreads clients out, guards nothing

    def next(self, asked: float | None = None) -> float:
        """Seconds to wait; `asked` is what the service wants at least."""
        delay = min(self._most, self.base * 2.0 ** min(self.tries, 30)) * self._random.uniform(0.5, 1.0)
        self.tries += 1
        return delay if asked is None else max(delay, min(asked, _MAX_WAIT) * self._random.uniform(1.0, 1.1))

    def reset(self) -> None:
        self.tries = 0


def app_path(app: str) -> str:
    """`/v1/apps/{app}/logs`. Raises ClientError for a name that is none."""
    return f"/v1/apps/{quoted_app(app)}/logs"


def quoted_app(app: str) -> str:
    """The name of an app as it stands in a path. Raises ClientError for a name that is none."""
    if app in {"", ".", ".."}:
        raise ClientError(f"an app can't be called {app!r}")
    return quote(app, safe="")


@contextmanager
def _translated(what: str, *, answered: bool) -> Iterator[None]:
    try:
        yield
    except SSLError as error:
        raise ClientError(f"{what}: {plain(str(error.args[0] if error.args else error))}") from error
    except ReadTimeoutError as error:
        raise Unavailable("nothing came from the service for too long", answered=answered) from error
    except (HTTPError, OSError) as error:
        raise Unavailable(_because(what, error), answered=answered) from error


def _because(what: str, error: BaseException) -> str:
    """`what`, and what the operating system says of it, where it does; the rest is for whoever knows urllib3."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{what}: {plain(cause.strerror.lower())}"
        cause = cause.__cause__ or cause.__context__
    return what


def _refusal(response: urllib3.BaseHTTPResponse) -> ClientError:
    """What an answer that is not 2xx means, in one line (RFC 9457 where the service says more)."""
    status = response.status
    said = _problem(response) or f"the service answers {status} {plain(response.reason or '')}".rstrip()
    wait = _retry_after(response.headers.get("Retry-After"))
    if status >= 500 or status in {408, 425, 429} or (status == 409 and wait is not None):
        return Unavailable(said, retry_after=wait)
    if 300 <= status < 400:
        return Refused(f"the service is at {plain(response.headers.get('Location', 'another place'))}; set PAAS_URL")
    if status == 401:
        return Refused(f"{said} (set PAAS_TOKEN)")
    return Refused(said)


def _problem(response: urllib3.BaseHTTPResponse) -> str | None:
    try:
        body = response.read(_MAX_PROBLEM)
        problem = orjson.loads(body)
    except (HTTPError, OSError, ValueError):
        return None
    if not isinstance(problem, dict):
        return None
    said = str(problem.get("detail") or problem.get("title") or "")
    parameter = str(problem.get("parameter") or "")
    if parameter:
        said = f"{_FLAGS.get(parameter, parameter)}: {said.removeprefix(f'{parameter}: ')}"
    return plain(said) or None


def _retry_after(header: str | None) -> float | None:
    """Seconds or a date (RFC 9110, section 10.2.3); None where it is neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, OverflowError):
        return None
