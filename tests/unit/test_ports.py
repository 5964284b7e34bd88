"""Test runs side by side on one machine never choose the same port."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ports

ROOT = Path(__file__).parents[2]
OTHER_RUN = """
import sys
from tests.support import ports
ports.LOWEST, ports.HIGHEST = map(int, sys.argv[1:])
print(*(ports.free_port() for _ in range(50)), flush=True)
sys.stdin.read()
"""


def test_another_run_gets_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some 200 ports the other has 50, so that of 50 without a reservation some would meet."""
    lowest = ports.free_ports(1) % 1_000 + ports.LOWEST
    monkeypatch.setattr(ports, "LOWEST", lowest)
    monkeypatch.setattr(ports, "HIGHEST", lowest + 200)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_RUN, str(ports.LOWEST), str(ports.HIGHEST)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin
        assert other.stdout
        theirs = {int(port) for port in other.stdout.readline().split()}
        assert len(theirs) == 50
        assert theirs.isdisjoint(ports.free_port() for _ in range(50))
        other.stdin.close()


def test_neighbouring_ports_are_all_reserved() -> None:
    first = ports.free_ports(5)
    assert ports._given.issuperset(range(first, first + 5))
