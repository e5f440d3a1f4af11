"""What tests share: waiting for a state, free ports, sequence-numbered lines, CRI lines, real log text.

    from tests.support import Tally, cri_line, free_port, loghub, numbered, until

Benchmarks use it too.
"""

from tests.support.cri import cri_line, cri_parts, cri_time
from tests.support.loghub import loghub
from tests.support.ports import free_port
from tests.support.tally import Tally, numbered
from tests.support.wait import eventually, until

__all__ = ["Tally", "cri_line", "cri_parts", "cri_time", "eventually", "free_port", "loghub", "numbered", "until"]
