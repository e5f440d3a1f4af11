"""Runs a program whose disk can be made slow, without a right that a user lacks.

    python -m tests.support.slow_disk FOLDER DELAY PROGRAM [ARGUMENT]…

The kernel holds each write and sync of the program, and of its threads, until a second process lets it go on (seccomp's
user notification, Linux 5.5, seccomp_unotify(2)). That one keeps those of files below FOLDER waiting, one after the
other, for as many seconds as the file DELAY says: a disk with one queue. Without that file nothing waits. The program
keeps its process id.
"""

import ctypes
import fcntl
import os
import platform
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NoReturn

# write, pwrite64, writev, pwritev, fsync, fdatasync; and seccomp itself.
_CALLS, _SECCOMP = {
    "x86_64": ((1, 18, 20, 296, 74, 75), 317),
    "aarch64": ((64, 68, 66, 70, 82, 83), 277),
}.get(platform.machine(), ((), 0))

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SET_MODE_FILTER, _FLAG_NEW_LISTENER = 1, 8
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_CONTINUE = 1

# struct seccomp_notif: id, pid, flags, number of the call, architecture, instruction, six arguments.
_REQUEST = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, error, flags.
_ANSWER = struct.Struct("=QqiI")
_RECEIVE = 3 << 30 | _REQUEST.size << 16 | ord("!") << 8
_SEND = 3 << 30 | _ANSWER.size << 16 | ord("!") << 8 | 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> NoReturn:
    folder, delay, *command = sys.argv[1:]
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        ours.close()
        _, (listener,), *_ = socket.recv_fds(theirs, 1, 1)
        hold(listener, str(Path(folder).resolve()), Path(delay))
    theirs.close()
    listener = _listen()
    socket.send_fds(ours, [b"."], [listener])
    os.close(listener)
    ours.close()
    os.execvp(command[0], command)


def _listen() -> int:
    """From here on the calls of this thread, and of what it starts, are held; where to hear of them."""
    code = struct.pack("=HBBI", _LOAD, 0, 0, 0)
    for left, number in enumerate(reversed(_CALLS)):
        code = code[:8] + struct.pack("=HBBI", _EQUAL, left + 1, 0, number) + code[8:]
    code += struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW) + struct.pack("=HBBI", _RETURN, 0, 0, _NOTIFY)
    program = _Program(len(code) // 8, code)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _FLAG_NEW_LISTENER, ctypes.byref(program))
    if listener < 0 or not _CALLS:
        sys.exit(f"no slow disk here: {os.strerror(ctypes.get_errno())}, {platform.machine()}")
    return int(listener)


def hold(listener: int, folder: str, delay: Path) -> NoReturn:
    """Let one call after the other go on, at once or after the delay, until the program ends, and this one with it."""
    while True:
        request = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, request)
            number, pid, _, _, _, _, file, *_ = _REQUEST.unpack(request)
            if (seconds := _read(delay)) and _name(pid, file).startswith(folder):
                time.sleep(seconds)  # the slowness itself
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))
        except OSError:
            continue  # the thread that made the call is gone


def _read(delay: Path) -> float:
    try:
        return float(delay.read_text())
    except FileNotFoundError:
        return 0.0


def _name(pid: int, file: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{file}").readlink())
    except OSError:
        return ""


if __name__ == "__main__":
    main()
