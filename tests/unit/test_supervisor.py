"""How ``chatbus up`` stops its processes: in stages, each with time to finish and an end."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.gateway.settings import GatewaySettings
from bus.runtime.settings import Environment
from consumers import request_worker
from deploy.commands.up import STOP_STAGES
from deploy.local.child import Program
from deploy.local.supervisor import STOP_SIGNALS, Stage, Supervisor
from deploy.processes import PROCESSES
from tests.support.wait import patience
from webapp.project import server

MINIMUM = Environment({"BROKER_URL": "redis://127.0.0.1/"})

FINISHES = """
import signal, sys, threading
from bus.runtime.process import notify_ready, stop_event
stop = stop_event()
notify_ready()
stop.wait()
threading.Event().wait(0.5)
open(sys.argv[1], "w").close()
"""
NEVER_ENDS = """
import signal
from bus.runtime.process import notify_ready
signal.signal(signal.SIGTERM, signal.SIG_IGN)
notify_ready()
while True:
    signal.pause()
"""


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """Takes the signals of the test run for itself; they are given back."""
    numbers = (*STOP_SIGNALS, signal.SIGCHLD)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield Supervisor(lambda pids: None)
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def python(name: str, text: str, *arguments: str) -> Program:
    return Program(name, (sys.executable, "-c", text, *arguments))


def test_who_finishes_in_time_is_let_finish_and_who_does_not_is_killed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    finished = tmp_path / "finished"
    supervisor.start([python("slow", FINISHES, str(finished)), python("stuck", NEVER_ENDS)])
    supervisor.wait_until_ready(["slow", "stuck"], patience(20))
    started = time.monotonic()
    supervisor.stop([Stage(("slow",), patience(20)), Stage(("stuck",), 0.5)])
    assert finished.exists()
    assert time.monotonic() - started >= 1.0


def test_every_process_is_in_one_stage() -> None:
    names = [name for stage in STOP_STAGES for name in stage.names]
    assert sorted(names) == sorted([*PROCESSES, "migrate", "topology", "redis", "mongo"])


def test_a_stage_is_longer_than_its_processes_take_to_finish_and_the_whole_has_an_end() -> None:
    seconds = {name: stage.seconds for stage in STOP_STAGES for name in stage.names}
    assert seconds["web"] > server.GRACEFUL_SECONDS
    assert seconds["request_worker"] > request_worker.Settings.from_environment(MINIMUM).grace
    assert seconds["gateway"] > GatewaySettings.from_environment(MINIMUM).timeout
    assert sum(stage.seconds for stage in STOP_STAGES) <= 100
