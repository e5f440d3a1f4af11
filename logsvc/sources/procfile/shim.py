"""Stands between the runner and one process, as containerd's shim does, so that nothing outlives the runner.

Run as `python -I -S shim.py <lifeline> <command>`, never imported by logsvc: it takes 15 ms to start and 10 MB.
The lifeline is the read end of a pipe whose other end only the runner has. A byte on it is a signal's number, sent to
the process's group; its end means that the runner is gone, however it went, and everything is killed.

What is covered: the process (its own group leader, and killed by the kernel should the shim itself be killed), its
children in that group, and those that left the group or were orphaned, because the shim is their subreaper: they
become its children when their parent dies. Whatever the process leaves behind when it exits is killed as in a
container. Not covered: a process of another user (`sudo`), and children when the shim itself is killed with -9.

Exits with the process's status, 128 + n where signal n ended it.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    lifeline, command = int(sys.argv[1]), sys.argv[2]
    os.set_inheritable(lifeline, False)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child_ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    shim = os.getpid()
    child = os.fork()
    if child == 0:
        _become(libc, shim, command)
    # Only now, for the child would inherit it: what is sent to the shim by mistake must not end it.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    # The pipes are the process's alone, so that they end when it and its children do.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    # Done here and in the child, whichever comes first: a signal must find the group.
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    status = _watch(child, lifeline, child_ended)
    _kill_all(child)
    return status


def _become(libc: ctypes.CDLL, shim: int, command: str) -> None:
    try:
        os.setpgid(0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != shim:
            os._exit(1)
        # CPython ignores these two; a program expects them as a shell leaves them.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execv("/bin/sh", ["sh", "-c", command])  # noqa: S606 - a Procfile is shell commands
    finally:
        os._exit(127)


def _watch(child: int, lifeline: int, child_ended: int) -> int:
    """Pass signals on until the process has ended, or end it where the runner is gone. Returns its status."""
    sources = [lifeline, child_ended]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if child_ended in ready:
            os.read(child_ended, 4096)
            status = _reap(child)
            if status is not None:
                return status
        if lifeline in ready:
            wanted = os.read(lifeline, 1)
            with contextlib.suppress(OSError):
                os.killpg(child, wanted[0] if wanted else signal.SIGKILL)
            if not wanted:
                sources = [child_ended]


def _reap(child: int) -> int | None:
    """Bury every child that has ended; the process's status where it is among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(raw)
                status = code if code >= 0 else 128 - code
    return status


def _kill_all(group: int) -> None:
    """Kill what the process left: its group, then each orphan that becomes a child of ours, until none is left."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    children = f"/proc/self/task/{os.getpid()}/children"
    with contextlib.suppress(OSError):
        while True:
            with open(children) as listing:  # noqa: PTH123 - pathlib would double the time to start
                pids = [int(pid) for pid in listing.read().split()]
            if not pids:
                return
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
