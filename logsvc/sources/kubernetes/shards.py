"""Which share of a cluster's pods one of several collectors follows. No I/O."""

from typing import NamedTuple
from zlib import crc32

from logsvc.sources.kubernetes.event_teller import EVENT
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.rollout_teller import ROLLOUT


class Shard(NamedTuple):
    """One share of so many."""

    number: int
    of: int

    @property
    def has_cluster(self) -> bool:
        """Whether what is said of no pod, and what Events tell, is said here."""
        return self.number == 0

    def has(self, pod: Pod) -> bool:
        """Whether a pod is of this share."""
        return self._has(pod.uid)

    def has_file(self, file: str) -> bool:
        """Whether an origin's file is: that of a container, or of what is said of a pod or of the cluster."""
        if file.endswith((ROLLOUT, EVENT)):
            return self.has_cluster
        return self._has(file.partition("/")[0])

    def _has(self, uid: str) -> bool:
        return crc32(uid.encode()) % self.of == self.number
