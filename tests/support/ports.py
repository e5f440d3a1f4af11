"""Ports for servers that tests start in other processes; what runs in this process binds port 0 instead."""

import random
import socket

_FROM, _TO = 10_000, 32_000
"""Below the ports that the kernel gives to clients: one of those may go to any connection until the server starts."""

_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listened on a moment ago, and that this gave to nobody before."""
    while True:
        # By chance, as other runs of the tests look for ports too.
        port = random.randrange(_FROM, _TO)
        if port not in _given and _free(port):
            _given.add(port)
            return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
