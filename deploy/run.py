"""``chatbus run NAME``: one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from bus.errors import SettingError
from bus.settings import Environment
from deploy.processes import PROCESSES, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="NAME", help=f"one of {', '.join(PROCESSES)}")


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Runs the process that ``arguments`` names, and imports only that one."""
    name = arguments.process
    if name not in PROCESSES:
        raise SettingError("NAME", f"{name!r} is no process; accepted are {', '.join(PROCESSES)}")
    load(PROCESSES[name], extra=name).main(environment)
    return 0
