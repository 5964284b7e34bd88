"""Processes that do nothing for a while, and keep their connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.wait import wait_until


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops the process and its descendants by SIGSTOP until the block ends or kills them.

    The block begins when all their threads stand still: each runs on for some milliseconds after
    the signal, in which a server can still answer.
    """
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    try:
        for each in family:
            each.suspend()
        wait_until(lambda: all(map(stands_still, family)), what=f"{process} stands still")
        yield
    finally:
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.resume()


def stands_still(process: psutil.Process) -> bool:
    threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(state_of(thread.read_text()) == "T" for thread in threads)


def state_of(stat: str) -> str:
    """The third field of ``/proc/…/stat``; the second is a name in parentheses."""
    return stat.rpartition(")")[2].split()[0]
