"""Lines, chunks and selections as hypothesis makes them: any bytes, every form of time."""

from hypothesis import strategies as st

from logsvc.model import Chunk, Selection, Stream

SECOND = 10**9
NASTY = (
    b"",
    b"\r",
    b"\0",
    b"\x7f",
    b'"',
    b"\\",
    b"\xff",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\x1b[31m",
    b"data: x",
    b"id: 9.9.9.9",
    b": ",
    b"event: end",
    b" stdout F ",
    b"2026-11-23T02:00:00Z stdout F forged",
    b"\t",
    b"  ",
    b"error",
    b"Error",
    "GRÜSSE".encode(),
    "grüße".encode(),
    b"x" * 40,
)


def messages() -> st.SearchStrategy[bytes]:
    """Any bytes but a newline, with much of what formats stumble over."""
    pieces = st.sampled_from(NASTY) | st.binary(max_size=8)
    return st.lists(pieces, max_size=5).map(lambda found: b"".join(found).replace(b"\n", b"?"))


@st.composite
def times(draw: st.DrawFn) -> bytes:
    """A time as container runtimes write it: 0 to 9 digits of fraction, `Z` or an offset."""
    day, clock = draw(st.dates().map(str)), draw(st.times().map(lambda at: f"{at:%H:%M:%S}"))
    if not "1971" < day < "2200":
        day = "2026-11-23"
    digits = draw(st.one_of(st.just(9), st.integers(0, 9)))
    fraction = draw(st.integers(0, 10**digits - 1)) if digits else 0
    dot = f".{fraction:0{digits}d}" if digits else ""
    zone = draw(st.sampled_from(["Z", "Z", "Z", "+00:00", "+05:30", "-11:00"]))
    return f"{day}T{clock}{dot}{zone}".encode()


def streams() -> st.SearchStrategy[Stream]:
    names = st.sampled_from(["web", "worker", "release"])
    dynos = st.sampled_from(["web.1", "web.2", "worker.1", 'we"ird\\ü'])
    sources = st.sampled_from(["app", "platform"])
    return st.builds(Stream, st.just("local"), st.just("demo"), names, dynos, sources, st.just("uid:0"))


@st.composite
def chunks(draw: st.DrawFn, partial: bool = True) -> Chunk:
    """A chunk of up to eight lines."""
    made, some_partial = b"", False
    tags = st.sampled_from([b"F", b"F", b"P"] if partial and draw(st.booleans()) else [b"F"])
    for _ in range(draw(st.integers(1, 8))):
        tag, stream = draw(tags), draw(st.sampled_from([b"stdout", b"stderr"]))
        some_partial = some_partial or tag == b"P"
        made += b"%b %b %b %b\n" % (draw(times()), stream, tag, draw(messages()))
    offset = draw(st.integers(0, 10**6))
    return Chunk(1, 2, offset, 1_795_399_200_000, draw(streams()), made, partial=some_partial)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    """All lines of a chunk, or some."""
    chunk = draw(chunks())
    numbers = list(chunk.numbers)
    if draw(st.booleans()):
        return Selection(chunk, chunk.value, chunk.numbers)
    chosen = sorted(draw(st.sets(st.sampled_from(numbers), min_size=1)))
    lines = chunk.value.split(b"\n")
    return Selection(chunk, b"".join(lines[number] + b"\n" for number in chosen), chosen)
