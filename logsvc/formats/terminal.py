"""What of a message may reach a terminal: text, tabs and SGR (ECMA-48 "select graphic rendition": colours, bold).

Every other control sequence could move the cursor, rename the window, write to the clipboard or answer as if the
user had typed, so it is removed, in its 7-bit form (ESC and a letter) as well as its 8-bit one (C1).
"""

import re
from typing import Final

RESET: Final = "\x1b[0m"

_CONTROL = re.compile(
    r"""
      (?P<sgr> \x1b\[ [0-9;:]* m )
    | (?: \x1b[P\]X^_] | [\x90\x9d\x98\x9e\x9f] )    # DCS, OSC, SOS, PM, APC: a string …
      [^\x07\x18\x1a\x1b\x80-\x9f]* (?: \x07 | \x1b\\ | \x9c )  # … up to BEL or ST; without an end the text stays
    | (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]?       # CSI
    | \x1b [ -/]* [0-~]?                             # two- and three-character escapes
    | [\x00-\x08\x0a-\x1f\x7f-\x9f]
    """,
    re.VERBOSE,
)
_SGR = re.compile(r"\x1b\[[0-9;:]*m")


def sanitized(text: str) -> str:
    """`text` without control characters and sequences, but for tabs and SGR."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match["sgr"] or "", text)


def left_on(text: str) -> bool:
    """Whether colours of `text` would go on behind it: its last SGR is not a reset."""
    found = _SGR.findall(text)
    return bool(found) and found[-1] not in {RESET, "\x1b[m"}


def without_sgr(text: str) -> str:
    """`text` without colours."""
    return _SGR.sub("", text) if "\x1b" in text else text


def plain(text: str) -> str:
    """One line of text without any control sequence: for what a server or a user says in a message of ours."""
    return without_sgr(sanitized(" ".join(text.split())))
