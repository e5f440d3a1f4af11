"""A filter lets through exactly the lines that a plain reading of it lets through."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logsvc.errors import BadFilter
from logsvc.model import EVERYTHING, Chunk, Filter, Selection, Stream, notices_of
from logsvc.selection import MAX_PATTERN, Matcher, first, last
from tests.support.lines import chunks
from tests.support.reference import Known, known, nanoseconds, passes

TEXTS = ["error", "Error", "grüße", "GRÜSSE", "x", "\\", "\0", "\r", ".", "ß", "\u212a", "stdout F ", "2026", " "]
PATTERNS = ["err?or", "^x", "x$", "^$", "[^x]", r"\x00", ".", "(?i)ERR", r"\bforged\b", "ü|Ü", r"\C", "^data: "]
PATTERNS += ["[a^]", "^|x", r"\B", r"\Bx", r"\s", r"(?s)x.?$", "(?i)^E", r"\Ax", r"x\z", "F .*x"]
instants = st.sampled_from([0, nanoseconds("2026-11-23T00:00:00Z"), nanoseconds("2026-11-23T12:00:00.5+05:30")])


def some(values: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(values), max_size=2)


def several(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


filters = st.builds(
    Filter,
    process=some(["web", "worker", "none"]),
    dyno=some(["web.1", "web.2"]),
    source=some(["app", "platform"]),
    stream=some(["stdout", "stderr"]),
    not_process=some(["web", "worker", "none"]),
    not_dyno=some(["web.1", "web.2"]),
    not_source=some(["app", "platform"]),
    not_stream=some(["stdout", "stderr"]),
    grep=several(TEXTS),
    grep_re=several(PATTERNS),
    exclude=several(TEXTS),
    exclude_re=several(PATTERNS),
    ignore_case=st.booleans(),
    since=st.none() | instants,
    until=st.none() | instants,
)
NOTICE = notices_of(Stream("local", "demo", "", "", "", "").app_id)


def lines(selection: Selection | None) -> list[Known]:
    return [] if selection is None else known(selection)


@settings(max_examples=300)
@given(chunks(), filters, st.integers(-1, 8), st.booleans())
def test_a_filter_takes_what_a_plain_reading_takes(chunk: Chunk, wanted: Filter, after: int, notice: bool) -> None:
    if notice:
        chunk.stream = NOTICE
    selection = Matcher(wanted).select(chunk, after)
    expected = [line for line in known(chunk) if line.cursor.line > after and passes(wanted, line)]
    assert lines(selection) == expected
    assert selection is None or expected, "a selection without lines"
    if after < 0 and len(expected) == len(chunk.numbers) and not wanted.reads_lines:
        assert selection is not None
        assert selection.whole


@settings(max_examples=60)
@given(chunks(), st.data())
def test_some_lines_of_a_chunk_keep_their_numbers(chunk: Chunk, data: st.DataObject) -> None:
    """What the store gives back is some of a chunk's lines, under the numbers that they had."""
    numbers = data.draw(st.sets(st.integers(0, 40), min_size=len(chunk.numbers), max_size=len(chunk.numbers)))
    chunk.indices = sorted(numbers)
    after = data.draw(st.integers(-1, 40))
    expected = [line for line in known(chunk) if line.cursor.line > after]
    assert lines(Matcher(EVERYTHING).select(chunk, after)) == expected


@settings(max_examples=60)
@given(chunks(), filters, st.integers(1, 9))
def test_first_and_last_cut_at_lines(chunk: Chunk, wanted: Filter, count: int) -> None:
    selection = Matcher(wanted).select(chunk)
    if selection is None:
        return
    assert known(first(selection, count)) == known(selection)[:count]
    assert known(last(selection, count)) == known(selection)[-count:]
    if count >= len(selection.numbers):
        assert first(selection, count) is selection
        assert last(selection, count) is selection


def test_a_chunk_of_a_process_that_nobody_asked_for_is_not_read() -> None:
    chunk = Chunk(1, 2, 3, 0, Stream("local", "demo", "web", "web.1", "app", "x"), b"not even a line\n")
    assert Matcher(Filter(process=frozenset({"worker"}), grep=("x",))).select(chunk) is None


def test_a_chunk_without_the_text_is_not_read_line_by_line() -> None:
    chunk = Chunk(1, 2, 3, 0, Stream("local", "demo", "web", "web.1", "app", "x"), b"not even a line\n")
    assert Matcher(Filter(grep=("error",))).select(chunk) is None


@pytest.mark.parametrize("pattern", ["(", "[", "*", r"\1", "(?=x)", "(?<=x)", r"\p{Nonsense}", "(?P<a>x"])
def test_a_pattern_that_re2_refuses_is_named(pattern: str) -> None:
    for name in ("grep_re", "exclude_re"):
        with pytest.raises(BadFilter, match="RE2") as raised:
            Matcher(Filter(**{name: (pattern,)}))  # type: ignore[arg-type]  # a name of the two
        assert raised.value.parameter == name


@pytest.mark.parametrize(
    "patterns",
    [
        ("x{1,1000}" * 100,),  # RE2 takes it, after 30 s in which nothing else goes on
        ("(x{30}){30}", "x{1,500}", "y{500,}"),
        ("x{2000}",),
        (r"\S{1,1000}",),
        (r"\pL" * 330,),
        (".{250}", ".{250}", ".{250}"),
    ],
)
def test_patterns_that_would_cost_too_much_are_refused(patterns: tuple[str, ...]) -> None:
    with pytest.raises(BadFilter, match=r"too large|repeats more than 1000 times") as raised:
        Matcher(Filter(grep_re=patterns))
    assert raised.value.parameter == "grep_re"
    with pytest.raises(BadFilter, match=r"too large|repeats more than 1000 times") as raised:
        Matcher(Filter(grep_re=patterns[:-1], exclude_re=patterns[-1:]))
    assert raised.value.parameter == "exclude_re"


@pytest.mark.parametrize(
    "pattern", [".{0,300}", r"\pL+", r"(?i)\bfehler\b|ошибка", r"\d{1,3}(\.\d{1,3}){3}", "[0-9a-f]{8}(-[0-9a-f]{4}){3}"]
)
def test_what_people_search_for_is_not_too_large(pattern: str) -> None:
    assert Matcher(Filter(grep_re=(pattern,))).wanted.grep_re


@pytest.mark.parametrize("name", ["grep", "grep_re", "exclude", "exclude_re"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_text_can_be_as_long_as_is_said_and_no_longer(name: str, fold: bool) -> None:
    Matcher(Filter(**{name: ("x" * MAX_PATTERN,)}, ignore_case=fold))  # type: ignore[arg-type]  # a name of the four
    with pytest.raises(BadFilter, match="longer") as raised:
        Matcher(Filter(**{name: ("x" * (MAX_PATTERN + 1),)}, ignore_case=fold))  # type: ignore[arg-type]  # as above
    assert raised.value.parameter == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@example("a.b*c")
@example("\0")
def test_a_literal_is_found_whatever_is_in_it(text: str) -> None:
    data = text.replace("\n", "?").encode()
    stream = Stream("local", "demo", "web", "web.1", "app", "x")
    chunk = Chunk(1, 2, 3, 0, stream, b"2026-11-23T02:00:00.123456789Z stdout F \xff<%b>\n" % data)
    for fold in (False, True):
        assert Matcher(Filter(grep=(data.decode(),), ignore_case=fold)).select(chunk) is not None
        assert Matcher(Filter(exclude=(data.decode(),), ignore_case=fold)).select(chunk) is None


def test_a_pattern_that_backtracks_elsewhere_takes_no_time_here() -> None:
    stream = Stream("local", "demo", "web", "web.1", "app", "x")
    chunk = Chunk(1, 2, 3, 0, stream, b"2026-11-23T02:00:00.123456789Z stdout F %b\n" % (b"a" * 5000))
    assert Matcher(Filter(grep_re=("(a*)*b",))).select(chunk) is None
