"""A Procfile says what runs; one that doesn't parse says in which line and why."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.errors import ConfigError
from logsvc.sources.procfile.parse import Entry, parse_env, parse_procfile, read_env, read_procfile

names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=20)
commands = (
    st.text(
        st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]),
        min_size=1,
        max_size=60,
    )
    .map(str.strip)
    .filter(bool)
)
noise = st.sampled_from(["", "   ", "# a comment: not an entry", "\t# web: echo"])


@given(
    st.lists(st.tuples(names, commands), min_size=1, max_size=8, unique_by=lambda e: e[0]),
    noise,
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_entries_come_back_in_order_whatever_stands_between(entries, between, gap, newline):
    text = newline.join(f"{between}{newline}{name}:{gap}{command}" for name, command in entries)
    assert parse_procfile(text) == [Entry(*entry) for entry in entries]


@given(st.text())
def test_any_text_gives_entries_or_a_reason_with_its_place(text):
    entries = reason = None
    try:
        entries = parse_procfile(text, "Procfile")
    except ConfigError as error:
        reason = str(error)
    if entries is None:
        assert reason is not None
        assert reason.startswith("Procfile:")
    else:
        assert len({entry.name for entry in entries}) == len(entries) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: a\n\nworker b", "Procfile:3: no colon; a line looks like 'web: python web.py'"),
        ("web: a\nweb: b", "Procfile:2: 'web' stands in line 1 already"),
        ("# nothing\n", "Procfile: names no process; a line looks like 'web: python web.py'"),
        ("web:", "Procfile:1: 'web' has no command"),
        (": a", "Procfile:1: no name in front of the colon"),
        ("wéb: a", "Procfile:1: a name has letters, digits, '-' and '_' only"),
        ("web 1: a", "Procfile:1: a name has letters, digits, '-' and '_' only"),
        ("web: a\0b", "Procfile:1: a command can't hold a NUL byte"),
        ("w" * 64 + ": a", "Procfile:1: a name has at most 63 characters"),
    ],
)
def test_a_procfile_that_does_not_parse_says_line_and_reason(text, message):
    with pytest.raises(ConfigError) as raised:
        parse_procfile(text)
    assert str(raised.value) == message


def test_a_command_keeps_its_colons_quotes_and_hashes():
    assert parse_procfile("web: PORT=1 sh -c 'echo \"a: b\" # c'") == [
        Entry("web", "PORT=1 sh -c 'echo \"a: b\" # c'"),
    ]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_procfile(tmp_path / "Procfile")
    (tmp_path / "Procfile").write_bytes(b"web: a\nworker: \xff\n")
    with pytest.raises(ConfigError, match=r"Procfile:2: not UTF-8"):
        read_procfile(tmp_path / "Procfile")


def test_env_has_quotes_comments_and_export(tmp_path: Path):
    (tmp_path / ".env").write_text("# a\nA=1\nexport B='x y'\nC=\"two\\nlines\"\n")
    assert read_env(tmp_path / ".env") == {"A": "1", "B": "x y", "C": "two\nlines"}
    assert read_env(tmp_path / "none") == {}


@given(st.text())
def test_a_bad_env_says_the_line_and_never_a_value(text):
    variables = reason = None
    try:
        variables = parse_env(text + "\nsecret sauce = ' =\n")
    except ConfigError as error:
        reason = str(error)
    if variables is None:
        assert reason is not None
        assert reason.startswith(".env:")
        assert "sauce" not in reason
    else:
        assert all(name and "\0" not in name + value for name, value in variables.items())
