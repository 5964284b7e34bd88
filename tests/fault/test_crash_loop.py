"""Consumers killed again and again, with messages in hand.

Last of the tests that kill consumers: the supervisor lets the next start of one that keeps dying
wait longer and longer.
"""

from __future__ import annotations

import pytest

from tests.fault.form import Form
from tests.fault.system import System

pytestmark = pytest.mark.timeout(1_800)
CONSUMERS = ("mongo_writer", "redis_publisher")


def test_a_crash_loop_of_both_consumers(system: System, form: Form) -> None:
    before = killed(system)
    with system.load(rate=20) as load:
        for _ in range(form.kills):
            system.kill(*CONSUMERS)
        load.settle()
    assert killed(system) == [count + form.kills for count in before]


def killed(system: System) -> list[int]:
    """How often the supervisor has seen each consumer killed."""
    return [system.stack.output.count(f"{name} was killed by SIGKILL") for name in CONSUMERS]
