"""A frozen process has no thread that still runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.support.freeze import frozen, stands_still
from tests.support.wait import wait_until

BUSY = """
import threading, time
def work():
    while True:
        time.sleep(0.0001)
for _ in range(200):
    threading.Thread(target=work).start()
"""


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    """A process with so many threads that work that they do not stop at once."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as running:
        process = psutil.Process(running.pid)
        wait_until(lambda: process.num_threads() > 200, what="its threads run")
        yield process
        running.kill()


def test_every_thread_stands_still_in_the_block_and_goes_on_after_it(busy: psutil.Process) -> None:
    assert not stands_still(busy)
    for _ in range(10):  # once, they may all have stopped in time by luck
        with frozen(busy.pid):
            assert stands_still(busy)
        wait_until(lambda: not stands_still(busy), what="it goes on")


def test_a_process_that_the_block_kills_stays_dead(busy: psutil.Process) -> None:
    with frozen(busy.pid):
        busy.kill()
    assert busy.wait(timeout=60) is not None
