"""Free ports on the loopback interface."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack

HOST = "127.0.0.1"
# Below the range from which the kernel takes the ports of outgoing connections.
LOWEST, HIGHEST = 20_000, 32_000
# Test workers that run side by side must not choose the same (pytest-xdist names them gw0, gw1…).
WORKERS = 4
_given: set[int] = set()


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring ports that are all free, and were not given before:
    their servers may start later, or again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (HIGHEST - LOWEST) // WORKERS
    lowest = LOWEST + worker % WORKERS * share
    while True:
        first = random.randrange(lowest, lowest + share - count)
        ports = range(first, first + count)
        if _given.isdisjoint(ports) and _are_free(ports):
            _given.update(ports)
            return first


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
