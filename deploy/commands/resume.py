"""``chatbus resume NAME``: the consumers of a paused queue go on."""

from __future__ import annotations

import argparse

from bus.consuming.pause import resume
from bus.runtime.settings import Environment
from deploy.commands.pause import add_name, queue_named, waiting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Returns when the pause is off the broker; consumers go on within two seconds."""
    queue = queue_named(arguments.name)
    url = environment.broker_url()
    state = "goes on" if resume(url, queue) else "was not paused"
    print(f"{queue.name} {state}; {waiting(url, queue)}.")
    return 0
