"""``chatbus pause NAME``: a queue's consumers stop taking from it; they stay up, and it fills."""

from __future__ import annotations

import argparse
import os
import socket

from bus.consuming.pause import pause
from bus.errors import SettingError
from bus.runtime.settings import Environment
from bus.topology import CONSUMERS, Queue
from bus.transport import depth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--reason", default="", help="kept with the pause, for the next operator")


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Returns when the pause is noted on the broker; consumers obey it within a second."""
    queue = queue_named(arguments.name)
    url = environment.broker_url()
    by = f"{os.environ.get('USER', os.getuid())}@{socket.gethostname()}"
    is_new = pause(url, queue, by, arguments.reason)
    state = "is paused" if is_new else "was paused already"
    print(f"{queue.name} {state}; {waiting(url, queue)}.")
    print(f"Let it go on: chatbus resume {arguments.name}")
    return 0


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(CONSUMERS)}, or the queue's name")


def queue_named(name: str) -> Queue:
    """The queue of the consumer ``name``, or of that name itself. Raises SettingError."""
    by_name = dict(CONSUMERS) | {queue.name: queue for queue in CONSUMERS.values()}
    if name not in by_name:
        raise SettingError("NAME", f"{name!r} has no consumers; accepted are {', '.join(by_name)}")
    return by_name[name]


def waiting(url: str, queue: Queue) -> str:
    """How many messages wait on ``queue``, in words."""
    count = depth(url, queue)
    if count is None:
        return "the queue does not exist yet"
    return "1 message waits" if count == 1 else f"{count:,} messages wait"
