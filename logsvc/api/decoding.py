"""Bodies as they were before their sender compressed them: bounded steps, and an end that is an end.

aiohttp decodes bodies as well, but takes gzip and zstd that stop in the middle for whole.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import zstandard

from logsvc.errors import FormatError

STEP: Final = 256 * 1024
"""About how many bytes one step gives, however well the body was compressed."""

_WINDOW: Final = 8 * 1024 * 1024
"""What a decoder of zstd must be able to look back (RFC 9659)."""

_SLICE: Final = 256
"""Bytes of zstd that are decoded at once: a block of 128 KiB takes at least four, so that gives at most 8 MiB."""

_BROKEN: Final = "the body can't be decoded or was cut"


class Decoder(Protocol):
    """A content coding (RFC 9110), taken off."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in bounded pieces. Raises FormatError behind as much of it as there is."""

    def finish(self) -> None:
        """There is no more. Raises FormatError where that isn't the end."""


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class _Zlib:
    """gzip (RFC 1952) of any number of members, or deflate: RFC 1950, or without its header, as many send it."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._stream = zlib.decompressobj(31)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if not self._begun or self._stream.eof:
                self._stream = zlib.decompressobj(31 if self._gzip else 15 if data[0] & 0x0F == 8 else -15)
                self._begun = True
            try:
                decoded = self._stream.decompress(data, STEP)
            except zlib.error as error:
                raise FormatError(_BROKEN) from error
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            yield decoded

    def finish(self) -> None:
        if self._begun and not self._stream.eof:
            raise FormatError(_BROKEN)


class _Zstd:
    """RFC 8878, any number of frames."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._stream = self._decompressor.decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._stream.eof:
                self._stream = self._decompressor.decompressobj()
            self._begun = True
            some = data[at : at + _SLICE]
            try:
                decoded = self._stream.decompress(some)
            except zstandard.ZstdError as error:
                raise FormatError(_BROKEN) from error
            at += len(some) - len(self._stream.unused_data)
            for begin in range(0, len(decoded), STEP):
                yield decoded[begin : begin + STEP]

    def finish(self) -> None:
        if self._begun and not self._stream.eof:
            raise FormatError(_BROKEN)


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {
    "": _Plain,
    "identity": _Plain,
    "gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "zstd": _Zstd,
}


def decoder_for(coding: str) -> Decoder | None:
    """Of a Content-Encoding; None for one that isn't known."""
    make = _DECODERS.get(coding.strip().lower())
    return None if make is None else make()
