"""Bridges as processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from deploy.local.child import Child, Program
from tests.support.ports import HOST
from tests.support.wait import patience, wait_until


@contextmanager
def running_bridge(environment: Mapping[str, str], log: Path) -> Iterator[Child]:
    """A bridge with these settings, which listens to Redis when the block begins."""
    command = (sys.executable, "-P", "-m", "deploy.cli", "run", "bridge")
    child = Child(Program("bridge", command, dict(environment), log))
    child.start()
    try:
        wait_until(lambda: "listening to Redis" in log.read_text(), what="the bridge is ready")
        yield child
    finally:
        child.kill()
        wait_until(lambda: child.has_exited() or not child.running, what="the bridge is gone")
        child.close()


def metric(ops_port: int, sample: str) -> float:
    """One sample of a process's metrics, 0 if there is none yet."""
    text = requests.get(f"http://{HOST}:{ops_port}/metrics", timeout=patience(10)).text
    for line in text.splitlines():
        if line.startswith(f"{sample} "):
            return float(line.rpartition(" ")[2])
    return 0.0
