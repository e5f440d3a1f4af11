"""What a rule matches is kept nowhere; everything else is kept as it was, byte for byte."""

import re
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc import metrics
from logsvc.config import Redact as Settings
from logsvc.errors import ConfigError
from logsvc.formats import cri
from logsvc.model import Stream
from logsvc.sources.redaction import Redaction, luhn, redaction
from tests.support import loghub
from tests.support.service import Service
from tests.support.wait import until

STREAM = Stream("acme", "shop", "web", "web.1", "app", "i")
PRESETS = Redaction(Settings(everywhere=["token", "email", "card"]))

TOKENS = [
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    b"ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    b"sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    b"AKIAIOSFODNN7EXAMPLE",
    b"lsv_9f86d081884c7d659a2feaa0c55ad015",
    b"sk_test_4eC39HqLyjWDarjtT1zdp7dc",
    b"Bearer mF_9.B5f-4.1JqM-and-so-on==",
    b"bearer\tmF_9.B5f-4.1JqM-and-so-on==",
]
EMAILS = [b"anna@example.com", b"a.b+c%d@mail.example.co.uk", b"x@y.io"]
CARDS = [b"4111111111111111", b"4111 1111 1111 1111", b"5500-0000-0000-0004", b"378282246310005", b"3782 822463 10005"]
INNOCENT = [
    b"user@host and @you at 12:30, 1795399200000000000 ns",
    b"id=4111111111111112 order 5500000000000005 of 2026-11-23T02:00:00.123456789Z",
    b"blk_-4111111111111111000 terminating",
    b"Bearer of bad news, eyJ and ghp_short, AKIA too",
    b"\xff\xfe@\x00 bytes that are no text",
    b"",
]


def chunk(*messages: bytes, partial: bool = False) -> bytes:
    stamp = b"2026-11-23T02:00:00.000000000Z"
    return b"".join(cri.format_line(stamp, b"stdout", message, partial=partial) for message in messages)


def messages(value: bytes) -> list[bytes]:
    return [cri.parse(line)[3] for line in cri.lines(value)]


@pytest.mark.parametrize("secret", [*TOKENS, *EMAILS, *CARDS])
def test_presets_find_what_they_are_for(secret: bytes) -> None:
    before, hidden, after = b"says: ", secret, b", and goes on"
    (kept,) = messages(PRESETS(STREAM, chunk(before + hidden + after)))
    assert hidden not in kept
    assert re.fullmatch(rb"says: (\[(token|email|card)\]|\*+), and goes on", kept)


@pytest.mark.parametrize("secret", [*TOKENS, *CARDS])
def test_a_name_in_front_hides_nothing(secret: bytes) -> None:
    (kept,) = messages(PRESETS(STREAM, chunk(b"my_" + secret)))
    assert re.fullmatch(rb"my\[(token|card)\]", kept)


groups = st.lists(st.integers(0, 9999).map(lambda n: b"%04d" % n) | st.sampled_from([b"4000", b"4111"]), max_size=6)


@given(groups, st.sampled_from([b"4111 1111 1111 1111", b"5500 0000 0000 0004"]), groups, st.sampled_from([b" ", b"-"]))
def test_digits_around_it_hide_no_card(before: list[bytes], card: bytes, after: list[bytes], between: bytes) -> None:
    """Every four groups that are a card are gone, whatever the groups beside them happen to be."""
    given = [*before, *card.split(), *after]
    gone = set[int]()
    for number, first in enumerate(given):
        four = b"".join(given[number : number + 4])
        if re.match(rb"4|5[1-5]|2[2-7]|6011|65", first) and len(four) == 16 and luhn(four):
            gone |= set(range(number, number + 4))
    (kept,) = messages(PRESETS(STREAM, chunk(between.join(given))))
    assert re.findall(rb"\d+", kept) == [each for number, each in enumerate(given) if number not in gone]
    assert b"[card]" in kept


@pytest.mark.parametrize("text", INNOCENT)
def test_and_leave_alone_what_only_looks_so(text: bytes) -> None:
    value = chunk(text)
    assert PRESETS(STREAM, value) == value


def test_lines_of_real_programs_lose_only_addresses() -> None:
    """And one number of 16 digits whose check digit is right, in 18,000 lines that are full of numbers."""
    others = []
    for name in ("Apache", "HDFS", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Proxifier", "Spark", "Zookeeper"):
        value = chunk(*loghub(name))
        kept = messages(PRESETS(STREAM, value))
        others += [after for before, after in zip(messages(value), kept, strict=True) if before != after]
    assert len([line for line in others if b"[email]" not in line]) == 1
    assert any(b"kernel: Linux version 2.6.5-1.358 ([email])" in line for line in others)


anything = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" "))
secrets = st.sampled_from([*TOKENS, *EMAILS, *CARDS])
likely = st.lists(anything | secrets | st.sampled_from([b" ", b"4", b"@", b"a"]), max_size=5).map(b"".join)


@given(st.lists(likely, min_size=1, max_size=5), st.booleans())
def test_nothing_but_what_matches_changes_and_nothing_grows(texts: list[bytes], partial: bool) -> None:
    value = chunk(*texts, partial=partial)
    kept = PRESETS(STREAM, value)
    assert len(kept) <= len(value)
    assert kept.count(b"\n") == value.count(b"\n")
    for before, after in zip(cri.lines(value), cri.lines(kept), strict=True):
        assert cri.parse(before)[:3] == cri.parse(after)[:3]
        assert len(after) <= len(before)
    assert PRESETS(STREAM, kept) == kept, "what was replaced is not replaced again"


patterns = st.sampled_from(["a+", "^a", "a$", r"\Aa", r"a\z", r"\ba\b", "[^ab]b", "(?i)A4", "a|^b", "b@?", "4 "])


@given(patterns, st.lists(st.text("abA4@ ", max_size=8).map(str.encode), min_size=1, max_size=4))
def test_a_pattern_sees_each_message_alone(pattern: str, texts: list[bytes]) -> None:
    """As Python's own engine finds it; what is in front of the message, and the lines beside, are not there for it."""
    rules = Redaction(Settings(everywhere=["own"], rules={"own": pattern}))
    python = re.compile(pattern.replace(r"\z", r"\Z").replace("$", r"\Z").encode())
    wanted = [python.sub(lambda match: _replaced(match.group()), text) for text in texts]
    assert messages(rules(STREAM, chunk(*texts))) == wanted


def _replaced(text: bytes) -> bytes:
    return b"[own]" if len(text) >= 5 else b"*" * len(text)


def test_tenants_have_rules_of_their_own() -> None:
    rules = Redaction(
        Settings(everywhere=["email"], tenants={"acme": ["order"]}, rules={"order": r"order-\d+", "unused": "x"})
    )
    value = chunk(b"order-123456 of anna@example.com")
    assert messages(rules(STREAM, value)) == [b"[order] of [email]"]
    other = Stream("other", "shop", "web", "web.1", "app", "i")
    assert messages(rules(other, value)) == [b"order-123456 of [email]"]


def test_each_replacement_is_counted_by_its_rule() -> None:
    before = metrics.redacted.labels("email")._value.get()
    PRESETS(STREAM, chunk(b"anna@example.com and bert@example.com", b"nobody", b"carl@example.com"))
    assert metrics.redacted.labels("email")._value.get() - before == 3


def test_without_rules_there_is_nothing_to_do() -> None:
    assert redaction(Settings()) is None
    assert redaction(Settings(rules={"order": r"order-\d+"})) is None
    assert redaction(Settings(tenants={"acme": []})) is None
    assert redaction(Settings(tenants={"acme": ["card"]})) is not None


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(everywhere=["tokens"]), "there is no rule tokens; there are token, email, card"),
        (Settings(everywhere=["own"], rules={"own": "(x"}), "own is not a pattern that RE2 takes"),
        (Settings(tenants={"acme": ["own"]}, rules={"own": "x*"}), "own matches an empty text"),
    ],
)
def test_rules_that_cannot_be_used_stop_the_start(settings: Settings, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        redaction(settings)


@pytest.mark.parametrize("number", CARDS)
def test_check_digits(number: bytes) -> None:
    assert luhn(number)
    assert not luhn(number[:-1] + (b"1" if number[-1:] != b"1" else b"2"))


PROCFILE = "web: echo written by anna@example.com; sleep 1000\n"


async def test_collected_and_pushed_lines_reach_journal_and_readers_without_it(tmp_path: Path) -> None:
    settings = {"redact.everywhere": '["email"]', "redact.tenants": '{"local": ["token"]}'}
    async with Service(tmp_path, procfile=PROCFILE, settings=settings) as service:
        await service.start()
        async with aiohttp.ClientSession() as client:
            body = b"from bert@example.com with " + TOKENS[0] + b"\nlast\n"
            for _ in range(2):  # repeated, it is the same post
                headers = {"Idempotency-Key": "one", "Content-Type": "text/plain"}
                async with client.post(service.logs, data=body, headers=headers) as answer:
                    assert answer.status == 200

            async def text() -> str:
                async with client.get(service.logs) as answer:
                    return await answer.text()

            async def collected() -> bool:
                return "app[web.1]: written by" in await text()

            await until(collected, what="the process' line")
            shown = await text()
            async with client.get(f"{service.url}/metrics") as answer:
                counted = await answer.text()
        assert "written by [email]" in shown
        assert shown.count("from [email] with [token]") == 1
        # The platform says what it starts, and with which command.
        assert re.findall(r'logsvc_redacted_total{rule="(\w+)"} (.+)', counted) == [("email", "3.0"), ("token", "1.0")]
        assert await service.stop() == 0
    journal = b"".join(path.read_bytes() for path in (tmp_path / "data" / "bus").rglob("*") if path.is_file())
    assert b"[email]" in journal
    assert b"@example.com" not in journal
