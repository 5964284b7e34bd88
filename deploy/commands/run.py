"""``chatbus run NAME``: one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from bus.errors import SettingError
from bus.runtime.settings import Environment
from deploy.processes import PROCESSES, bridge_workers, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="NAME", help=f"one of {', '.join(PROCESSES)}")
    parser.add_argument(
        "--workers", metavar="N", help="bridge only: so many processes on one port, from 1 to 64"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Runs the process that ``arguments`` names, and imports only that one."""
    name = arguments.process
    if name not in PROCESSES:
        raise SettingError("NAME", f"{name!r} is no process; accepted are {', '.join(PROCESSES)}")
    if arguments.workers is not None:
        if name != "bridge":
            raise SettingError("--workers", f"is for bridge, not for {name}")
        environment = Environment({**environment.values, "BRIDGE_WORKERS": arguments.workers})
    if name == "bridge" and (workers := bridge_workers(environment)) > 1:
        from deploy.local.bridges import run_bridges

        return run_bridges(workers, environment)
    load(PROCESSES[name], extra=name).main(environment)
    return 0
