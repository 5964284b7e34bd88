"""Re-initialises objects with threads or locks after a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(method: Callable[[], None]) -> None:
    """Calls the bound ``method`` in every child of a fork, as long as its object exists.

    Only the thread that forks is alive in the child: a lock held by another thread would stay
    locked there for ever (https://docs.python.org/3/library/os.html#os.register_at_fork).
    """
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if living := reference():
            living()

    os.register_at_fork(after_in_child=call)
