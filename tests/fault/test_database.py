"""MariaDB killed, stalled, and throwing everybody out."""

from __future__ import annotations

import pytest

from tests.fault.form import Form
from tests.fault.system import System, refuses
from tests.support.freeze import frozen
from tests.support.load import Load
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)


def test_sigkill_and_restart(system: System, load: Load, form: Form) -> None:
    for _ in range(form.broker_kills):
        with system.mariadb.down():
            refuses(load, 1)
        load.wait_for_accepted()
    load.settle()


def test_sigstop(system: System, load: Load, form: Form) -> None:
    """The first refusal comes within the time that a page waits for an answer."""
    with frozen(system.mariadb.pid):
        refuses(load, form.stall)
    load.wait_for_accepted()
    load.settle()


def test_all_connections_killed_again_and_again(system: System, load: Load, form: Form) -> None:
    for _ in range(form.closings):
        killed = system.mariadb.connections()
        assert killed
        system.mariadb.execute("KILL HARD USER chatbus")
        wait_until(lambda killed=killed: killed.isdisjoint(system.mariadb.connections()))
        load.wait_for_accepted()
    load.settle()
