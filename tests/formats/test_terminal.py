"""What a tenant's line can do to the terminal it is shown on: colour itself, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.formats.terminal import plain, sanitized, without_sgr

pieces = st.one_of(
    st.sampled_from(
        [
            "\x1b",
            "[",
            "]",
            "m",
            "0",
            ";",
            ":",
            "31",
            "?",
            "2J",
            "\x07",
            "\x1b\\",
            "\x9b",
            "\x9c",
            "\x9d",
            "\x90",
            "P",
            "\r",
            "\n",
            "\t",
            "\b",
            "\x00",
            "\x7f",
            "\x85",
            " ",
            "x",
            "é",
            "\x1b[31m",
            "\x1b]0;t\x07",
            "\x18",
            "\\",
            "(",
        ]
    ),
    st.text(max_size=4),
)
texts = st.lists(pieces, max_size=20).map("".join)
SGR = re.compile(r"\x1b\[[0-9;:]*m")


@given(texts)
def test_nothing_but_text_tabs_and_colours_gets_through(text: str) -> None:
    left = SGR.sub("", sanitized(text))
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", left)


@given(texts)
def test_once_is_enough(text: str) -> None:
    assert sanitized(sanitized(text)) == sanitized(text)


@given(st.text(st.characters(exclude_categories=["Cc"])))
def test_text_without_controls_stays_as_it_is(text: str) -> None:
    assert sanitized(text) == text


@given(texts)
def test_without_sgr_no_escape_is_left(text: str) -> None:
    assert "\x1b" not in without_sgr(sanitized(text))


@given(texts)
def test_a_message_of_ours_is_one_plain_line(text: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", plain(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[38:2::255:0:0mtrue\x1b[m", "\x1b[38:2::255:0:0mtrue\x1b[m"),
        ("  indented\tby a tab", "  indented\tby a tab"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x1b[?1049hother screen", "other screen"),
        ("\x1b[>4;1mnot a colour", "not a colour"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;ZXZpbA==\x1b\\text", "text"),
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bP1$r0m\x1b\\text", "text"),
        ("\x9b2Jtext", "text"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line drawing", "line drawing"),
        ("10%\r20%", "10%20%"),
        ("bell\x07 back\b del\x7f nul\x00", "bell back del nul"),
        ("\x1b]0;never ends", "0;never ends"),
        ("cut \x1b[3", "cut "),
        ("cut \x1b", "cut "),
        ("\x1b[3\x071m", "1m"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert sanitized(text) == shown


@pytest.mark.parametrize("opening", ["\x9d", "\x90", "\x9b", "\x1b", "\x1b]", "\x1b[", "\x1b[1;", "\x1b[ "])
def test_a_line_made_to_be_slow_is_not(opening: str) -> None:
    assert "\x1b" not in sanitized(opening * 300_000)
