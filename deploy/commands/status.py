"""``chatbus status``: queues, servers and processes on one page, once or repeatedly."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bus.errors import SettingError
from bus.runtime.settings import Environment
from deploy.inspect.probe import Target, look, targets_of
from deploy.inspect.report import Report, compare
from deploy.inspect.status_view import lines, picture
from deploy.local.preflight import URLS

SAMPLE_SECONDS = 1.0
WATCH_SECONDS = 2.0
LONGEST_INTERVAL = 3_600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows queues, servers and processes. Exit status: 0 if all is well, 1 if something is "
        "not. Processes are found by OPS_TARGETS (name=host:port,…) or by --data."
    )
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "--interval",
        type=float,
        metavar="S",
        help=f"of --watch (default: {WATCH_SECONDS:g} seconds)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object, with --watch one a line"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Shows the status; the exit status. Raises SettingError."""
    seconds = _seconds(arguments)
    targets = targets_of(environment)
    if not targets and not any(environment.values.get(name) for name in URLS):
        raise SettingError(
            "status",
            f"nothing to look at; give --data DIR, or set OPS_TARGETS, {', '.join(URLS)}",
        )
    reports = _reports(environment, targets, seconds)
    if arguments.watch:
        _watch(reports, as_json=arguments.json)
    report = next(reports)
    _printer(as_json=arguments.json)(report)
    return 1 if report.problems else 0


def _seconds(arguments: argparse.Namespace) -> float:
    """The time between two looks. Raises SettingError."""
    if arguments.interval is None:
        return WATCH_SECONDS if arguments.watch else SAMPLE_SECONDS
    if not arguments.watch:
        raise SettingError("--interval", "is for --watch")
    if not 0.1 <= arguments.interval <= LONGEST_INTERVAL:
        raise SettingError("--interval", f"accepted are seconds from 0.1 to {LONGEST_INTERVAL:g}")
    return float(arguments.interval)


def _reports(
    environment: Environment, targets: Sequence[Target], seconds: float
) -> Iterator[Report]:
    """A report every ``seconds``, each with the rates since the one before."""
    before = look(environment, targets)
    while True:
        time.sleep(seconds)
        after = look(environment, targets)
        yield compare(before, after)
        before = after


def _watch(reports: Iterator[Report], *, as_json: bool) -> None:
    """Shows reports until Ctrl-C."""
    if as_json or not sys.stdout.isatty():
        show = _printer(as_json=as_json)
        for report in reports:
            show(report)
        return
    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        for report in reports:
            live.update(picture(report), refresh=True)


def _printer(*, as_json: bool) -> Callable[[Report], None]:
    if as_json:
        return lambda report: print(json.dumps(msgspec.to_builtins(report)), flush=True)
    if sys.stdout.isatty():
        from rich.console import Console

        return lambda report: Console().print(picture(report))
    return lambda report: print("\n".join(lines(report)), flush=True)
