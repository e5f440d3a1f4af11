"""Lines as containerd writes them for the kubelet (CRI logging format): `<time> <stream> <P|F> <message>`."""

import time

PART = 16 * 1024
"""containerd's `max_container_log_line_size`: a longer line is written in parts of this many bytes."""


def cri_time(time_ns: int) -> bytes:
    """Unix ns as Go's RFC3339Nano in UTC writes it: trailing zeros of the fraction trimmed, no dot for a whole second.

    >>> cri_time(1_500_000_000), cri_time(0)
    (b'1970-01-01T00:00:01.5Z', b'1970-01-01T00:00:00Z')
    """
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    decimals = f"{fraction:09d}".rstrip("0")
    return f"{whole}.{decimals}Z".encode() if decimals else f"{whole}Z".encode()


def cri_line(time_ns: int, stream: str, message: bytes, tag: str = "F") -> bytes:
    """One CRI line with its newline. `stream` is `stdout` or `stderr`, `message` any bytes but a newline."""
    return b"%b %b %b %b\n" % (cri_time(time_ns), stream.encode(), tag.encode(), message)


def cri_parts(time_ns: int, stream: str, message: bytes, size: int = PART) -> bytes:
    """The CRI lines of one message of any length: parts of `size` bytes tagged `P`, the last one `F`."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)] or [b""]
    return b"".join(
        cri_line(time_ns + number, stream, piece, "F" if number == len(pieces) - 1 else "P")
        for number, piece in enumerate(pieces)
    )
