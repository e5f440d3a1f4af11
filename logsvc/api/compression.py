"""Compressed answers that stay live: each frame is flushed to a block boundary, so its last line can be shown."""

import zlib
from typing import Protocol

import zstandard


class Encoder(Protocol):
    """A content coding (RFC 9110) over a stream of frames."""

    name: str

    def encode(self, data: bytes) -> bytes:
        """All of `data`, and of what came before, can be decoded from what was returned so far."""

    def finish(self) -> bytes:
        """What closes the stream."""


class Gzip:
    """RFC 1952; a window of 32 KiB and level 1: about 50 KiB of memory a client."""

    name = "gzip"

    def __init__(self) -> None:
        self._stream = zlib.compressobj(level=1, wbits=31, memLevel=5)

    def encode(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush()


class Zstd:
    """RFC 8878, with a window of 128 KiB, so that a thousand tails don't take a gigabyte."""

    name = "zstd"

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=17)
        self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def encode(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


def encoder_for(accept_encoding: str) -> Encoder | None:
    """The coding that a client prefers of those here (RFC 9110 §12.5.3); zstd of two it likes as much."""
    weights = dict(map(_weight, accept_encoding.lower().split(",")))
    best = max(("zstd", "gzip"), key=lambda name: weights.get(name, 0.0))
    if weights.get(best, 0.0) <= weights.get("identity", 0.0):
        return None
    return Zstd() if best == "zstd" else Gzip()


def _weight(choice: str) -> tuple[str, float]:
    name, _, quality = choice.partition(";")
    try:
        weight = float(quality.replace(" ", "").removeprefix("q=") or 1)
    except ValueError:
        weight = 0.0
    return name.strip(), weight
