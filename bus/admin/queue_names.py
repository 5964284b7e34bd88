"""The names that operators give to queues."""

from __future__ import annotations

from collections.abc import Iterable

from bus.errors import SettingError
from bus.topology import CONSUMERS, QUEUES, Queue


def queue_named(option: str, name: str, queues: Iterable[Queue], lack: str = "") -> Queue:
    """The one of ``queues`` whose name or short name is ``name``.

    The short name is that of the process that consumes the queue, or the name without ``chat.``.
    Raises SettingError, which says of another queue that it ``lack``, such as "has no consumers".
    """
    accepted = list(queues)
    for queue in accepted:
        if name in _names(queue):
            return queue
    is_known = any(name in _names(queue) for queue in QUEUES)
    problem = lack if lack and is_known else "is not a queue"
    names = ", ".join(name for queue in accepted for name in _names(queue))
    raise SettingError(option, f"{name!r} {problem}; accepted are {names}")


def short_name(queue: Queue) -> str:
    consumers = (name for name, consumed in CONSUMERS.items() if consumed.name == queue.name)
    return next(consumers, queue.name.removeprefix("chat."))


def _names(queue: Queue) -> tuple[str, str]:
    return short_name(queue), queue.name
