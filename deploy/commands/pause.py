"""``chatbus pause NAME`` and ``resume NAME``: a paused queue fills, and its consumers stay up."""

from __future__ import annotations

import argparse
import os
import socket

from bus.admin.queue_names import queue_named
from bus.consuming.pause import pause, resume
from bus.runtime.settings import Environment
from bus.topology import CONSUMERS, Queue
from bus.transport import depth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--reason", type=_text, default="", help="kept with the pause, for the next operator"
    )
    parser.set_defaults(run=run)


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.set_defaults(run=run_resume)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Returns when the pause is noted on the broker; consumers obey it within a second."""
    queue = _queue(arguments)
    url = environment.broker_url()
    by = f"{os.environ.get('USER', os.getuid())}@{socket.gethostname()}"
    is_new = pause(url, queue, by, arguments.reason)
    state = "is paused" if is_new else "was paused already"
    print(f"{queue.name} {state}; {_ready(url, queue)}.")
    print(f"Resume it with: chatbus resume {arguments.name}")
    return 0


def run_resume(arguments: argparse.Namespace, environment: Environment) -> int:
    """Returns when the pause is off the broker; consumers resume within two seconds."""
    queue = _queue(arguments)
    url = environment.broker_url()
    # Asked before: the consumers begin to empty the queue at once.
    ready = _ready(url, queue)
    state = "resumed" if resume(url, queue) else "was not paused"
    print(f"{queue.name} {state}; {ready}.")
    return 0


def _text(argument: str) -> str:
    """Bytes of the command line that are not UTF-8 arrive as halves of surrogate pairs."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8") from None
    return argument


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(CONSUMERS)}, or the queue's name")


def _queue(arguments: argparse.Namespace) -> Queue:
    """Raises SettingError."""
    return queue_named("NAME", arguments.name, CONSUMERS.values(), "has no consumers")


def _ready(url: str, queue: Queue) -> str:
    """How many messages are ready on ``queue``, in words."""
    count = depth(url, queue)
    if count is None:
        return "the queue does not exist yet"
    return f"{count:,} message{'' if count == 1 else 's'} ready"
