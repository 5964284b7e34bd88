"""One child process: its restarts, its words, and what it leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.child import FIRST_DELAY, LONGEST_DELAY, Child, Program
from tests.support.wait import wait_until


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    """Runs the Python text that the test's mark ``parametrize`` gives."""
    made = Child(Program("it", (sys.executable, "-c", request.param)))
    yield made
    made.kill()
    wait_until(lambda: made.has_exited() or not made.running)
    made.close()


@pytest.mark.parametrize("child", ["raise SystemExit(3)"], indirect=True)
def test_pauses_between_restarts_grow_to_a_bound(child: Child) -> None:
    child.start()
    wait_until(child.has_exited)
    assert child.last_words() == "ended with exit code 3"
    pauses = [child.plan_restart() for _ in range(12)]
    assert pauses[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert pauses[-1] == LONGEST_DELAY
    assert not child.is_due()


@pytest.mark.parametrize("child", ["import signal; signal.pause()"], indirect=True)
def test_a_signal_is_named_and_the_exit_seen_once(child: Child) -> None:
    child.start()
    os.kill(child.pid, signal.SIGKILL)
    wait_until(child.has_exited)
    assert child.last_words() == "was killed by SIGKILL"
    assert not child.has_exited()


NOTIFIER = """
import signal
from bus.runtime.process import notify_ready
notify_ready()
signal.pause()
"""


def test_a_program_that_is_asked_has_nobody_to_notify(tmp_path: Path) -> None:
    text = "import os; print(os.environ.get('NOTIFY_SOCKET'))"
    log = tmp_path / "log"
    child = Child(Program("it", (sys.executable, "-c", text), log=log, answers=lambda: True))
    child.start()
    wait_until(child.has_exited)
    child.close()
    assert log.read_text() == "None\n"


@pytest.mark.parametrize("child", [NOTIFIER], indirect=True)
def test_a_process_is_ready_when_it_says_so(child: Child) -> None:
    child.start()
    assert not child.ready
    child.notified()
    assert child.ready


@pytest.mark.parametrize("child", ["raise SystemExit(2)"], indirect=True)
def test_exit_code_2_before_it_was_ready_means_its_settings(child: Child) -> None:
    child.start()
    wait_until(child.has_exited)
    assert child.refuses_settings()


PARENT = """
import signal, subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
signal.pause()
"""


@pytest.mark.parametrize("child", [PARENT], indirect=True)
def test_a_dead_process_takes_its_own_children_along(child: Child) -> None:
    child.start()
    started = psutil.Process(child.pid)
    (grandchild,) = wait_until(started.children, what="it started a process")
    os.kill(child.pid, signal.SIGKILL)
    wait_until(child.has_exited)
    wait_until(
        lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE,
        what="the process that it started is gone",
    )
