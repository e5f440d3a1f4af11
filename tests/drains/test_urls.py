"""What a drain's URL may be, what it means, and that no secret of it is ever shown."""

from base64 import b64encode
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.drains.urls import SCHEMES, DrainUrl, masked, parse
from logsvc.errors import BadUrl

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True)
SECRETS = st.from_regex(r"SECRET[A-Za-z0-9]{1,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("https://logs.example.com", DrainUrl("https", "logs.example.com", 443)),
        ("HTTPS://Logs.Example.COM:443/", DrainUrl("https", "logs.example.com", 443)),
        (
            "https://user:p%40ss@host:8443/a%2Fb/c?key=1&k=2#gzip&insecure",
            DrainUrl("https", "host", 8443, "user", "p@ss", "/a%2Fb/c?key=1&k=2", frozenset({"gzip", "insecure"})),
        ),
        ("https://token@in.example.com/", DrainUrl("https", "in.example.com", 443, "token")),
        ("http://host?x", DrainUrl("http", "host", 80, target="/?x")),
        ("syslog://host", DrainUrl("syslog", "host", 601)),
        ("syslog://host.:514/", DrainUrl("syslog", "host", 514)),
        ("syslog+tls://host:6515#insecure", DrainUrl("syslog+tls", "host", 6515, options=frozenset({"insecure"}))),
        ("syslog+tls://[2001:DB8::1]", DrainUrl("syslog+tls", "2001:db8::1", 6514)),
        ("otlp+https://host/v1/logs", DrainUrl("otlp+https", "host", 443, target="/v1/logs")),
        ("https://93.184.216.34./", DrainUrl("https", "93.184.216.34", 443)),
        ("https://2.pool.0xa.example", DrainUrl("https", "2.pool.0xa.example", 443)),
        ("loki+http://host:3100", DrainUrl("loki+http", "host", 3100)),
    ],
)
def test_a_url_says_where_and_how(text: str, meaning: DrainUrl) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "space"),
        ("logs.example.com", "must begin with"),
        ("ftp://host", "must begin with"),
        ("https:host", "must begin with"),
        ("https:///path", "must begin with"),
        ("https://", "must begin with"),
        ("https://host:0/", "port"),
        ("https://host:65536/", "port"),
        ("https://host:x/", "port"),
        ("https://ho st/", "space"),
        ("https://host/\n", "space"),
        ("https://hóst/", "percent-encoded"),
        ("https://-host/", "neither a name"),
        ("https://a..b/", "neither a name"),
        (f"https://{'a' * 64}/", "neither a name"),
        ("https://127.1/", "neither a name"),
        ("https://2130706433/", "neither a name"),
        ("https://0x7f000001/", "neither a name"),
        ("syslog://0x7f.1", "neither a name"),
        ("https://1.2.3.256/", "neither a name"),
        ("https://1.2.3.04.", "neither a name"),
        ("https://[::1%25lo]/", "neither a name|can't be read"),
        ("https://[::g]/", "neither a name|can't be read"),
        ("https://user:pw@/", "neither a name"),
        ("syslog://user@host", "no user"),
        ("syslog://host/path", "no user"),
        ("syslog+tls://host?x=1", "no user"),
        ("syslog://host#insecure", "has no fragment"),
        ("syslog+tls://host#gzip", "may end in #insecure and"),
        ("http://host#insecure", "may end in #gzip and"),
        ("https://host#token=1", "may end in #gzip or #insecure and"),
        (f"https://host/{'x' * 2000}", "longer"),
    ],
)
def test_one_that_cannot_be_used_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(BadUrl, match=why):
        parse(text)


def test_however_it_is_written_it_is_the_same_place() -> None:
    assert parse("https://HOST:443").same_place(parse("https://host/#gzip"))
    assert not parse("https://host/a").same_place(parse("https://host/b"))
    assert not parse("https://a@host/").same_place(parse("https://b@host/"))
    assert not parse("syslog://host").same_place(parse("syslog+tls://host"))


@given(st.sampled_from(sorted(SCHEMES)), NAMES, SECRETS, SECRETS, SECRETS, SECRETS)
def test_no_secret_is_shown(scheme: str, host: str, user: str, password: str, path: str, query: str) -> None:
    bare = SCHEMES[scheme].protocol == "syslog"
    text = f"{scheme}://{host}" if bare else f"{scheme}://{user}:{password}@{host}:1234/{path}?key={query}"
    url = parse(text)
    for shown in (url.masked(), masked(text), repr(url)):
        assert "SECRET" not in shown
        assert host in shown
    assert masked(text).startswith(f"{scheme}://")


@given(SECRETS, SECRETS, SECRETS, SECRETS, st.text(max_size=10))
def test_no_secret_is_left_in_what_a_receiver_says_back(
    user: str, password: str, path: str, query: str, between: str
) -> None:
    url = parse(f"https://{user}:{password}@host/in/{path}%2F{path}/?key={query}%3D&x#gzip")
    credentials = b64encode(f"{user}:{password}".encode()).decode()
    echoes = [
        user, password, f"{user}:{password}", f"Basic {credentials}", credentials.rstrip("="), path, query.upper(),
        url.target, url.target.replace("/", "\\/"), unquote(url.target), quote(url.target), f'{{"key":"{query}="}}',
    ]  # fmt: skip
    shown = url.without_secrets(between.join(echoes))
    assert "SECRET" not in shown.upper().replace(between.upper(), "")
    assert credentials.rstrip("=") not in shown


def test_what_is_too_short_for_a_secret_stays() -> None:
    url = parse("https://a:b@host/in/v1?x=1")
    assert url.without_secrets("a bad key in v1: x=1") == "a bad key in v1: x=1"
    assert url.without_secrets("no /in/v1?x=1") == "no ****"
    assert parse("https://host").without_secrets("no / here") == "no / here"


@given(st.text(max_size=60) | st.builds("https://{}".format, st.text(st.characters(codec="ascii"), max_size=40)))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        url = parse(text)
    except BadUrl:
        assert masked(text) == "****"
    else:
        assert 0 < url.port < 65536
        assert url.target.startswith("/")
        assert parse(f"{url.scheme}://{url.authority}").host == url.host
