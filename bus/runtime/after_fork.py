"""What has a thread or a lock starts afresh in the child of a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(method: Callable[[], None]) -> None:
    """Calls the bound ``method`` in every child of a fork, while its object lives.

    Only the thread that forks is alive in the child: a lock that another one held would stay
    locked there for ever (https://docs.python.org/3/library/os.html#os.register_at_fork).
    """
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if living := reference():
            living()

    os.register_at_fork(after_in_child=call)
