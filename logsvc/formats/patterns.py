"""What can be told of a pattern of RE2 by its text."""

import re
from typing import Final

_EDGES: Final = re.compile(r"(?<!\[)\^|\$|\\[AzC]")
"""What matches at the edges of a text: such a pattern may match a message and not the chunk that it is in."""


def is_free(pattern: str) -> bool:
    """Whether a chunk with a message that the pattern matches is matched as a whole, too.

    So one search tells of all lines of most chunks that none of them matches. A word's edge (`\\b`) is one there as
    well: a space stands in front of each message, and a newline behind it.
    """
    return _EDGES.search(pattern) is None
