"""Bodies decoded in bounded steps, wherever the network cuts them."""

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from logsvc.api.decoding import STEP, decoder_for
from logsvc.errors import FormatError

Compress = Callable[[bytes], bytes]


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


CODINGS: list[tuple[str, Compress]] = [
    ("", bytes),
    ("Identity", bytes),
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("ZSTD", zstandard.compress),
]


@given(
    coding=st.sampled_from(CODINGS),
    bodies=st.lists(st.binary(max_size=3000) | st.integers(0, 2 * STEP).map(bytes), min_size=1, max_size=3),
    step=st.integers(1, 5000),
)
def test_what_comes_out_is_what_was_compressed(coding: tuple[str, Compress], bodies: list[bytes], step: int) -> None:
    name, compress = coding
    decoder = decoder_for(name)
    assert decoder is not None
    packed = b"".join(map(compress, bodies))
    pieces = [piece for at in range(0, len(packed), step) for piece in decoder.feed(packed[at : at + step])]
    decoder.finish()
    assert b"".join(pieces) == b"".join(bodies)
    assert max(map(len, pieces), default=0) <= max(STEP, step)


@given(coding=st.sampled_from(CODINGS[2:]), body=st.binary(min_size=1, max_size=3000), part=st.floats(0, 1))
def test_a_cut_is_told_from_an_end(coding: tuple[str, Compress], body: bytes, part: float) -> None:
    name, compress = coding
    packed = compress(body)
    decoder = decoder_for(name)
    assert decoder is not None
    begin = b"".join(decoder.feed(packed[: 1 + int(part * (len(packed) - 2))]))
    assert body.startswith(begin)
    with pytest.raises(FormatError):
        decoder.finish()


@pytest.mark.parametrize("name", ["br", "gzip, gzip", "x"])
def test_other_codings_are_unknown(name: str) -> None:
    assert decoder_for(name) is None
