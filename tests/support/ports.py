"""Free ports on the loopback interface."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

HOST = "127.0.0.1"
# Below the range from which the kernel takes the ports of outgoing connections.
LOWEST, HIGHEST = 20_000, 32_000
# Byte N of this file, locked, is port N in use by a test process of this machine, whichever run
# it belongs to. The kernel drops the locks of a process that ends (fcntl(2), F_SETLK).
LOCKS = Path(tempfile.gettempdir(), "chatbus-test-ports")
_given: set[int] = set()


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring ports that are all free. They stay reserved as long as
    this process lives: their servers may start later, or again."""
    while True:
        first = random.randrange(LOWEST, HIGHEST - count)
        ports = range(first, first + count)
        if _given.isdisjoint(ports) and _reserve(ports):
            _given.update(ports)
            return first


def _reserve(ports: range) -> bool:
    try:
        fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_EX | fcntl.LOCK_NB, len(ports), ports.start)
    except (BlockingIOError, PermissionError):
        return False
    return _are_free(ports)


@functools.cache
def _locks(process: int) -> int:
    """A descriptor of the file, which ``process`` never closes: that would drop its locks."""
    with suppress(FileExistsError), open(LOCKS, "x"):
        LOCKS.chmod(0o666)
    return os.open(LOCKS, os.O_RDWR | os.O_CLOEXEC)


def _are_free(ports: range) -> bool:
    with ExitStack() as probes:
        for port in ports:
            probe = probes.enter_context(socket.socket())
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def is_open(port: int) -> bool:
    """Whether somebody listens on ``port``."""
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True
