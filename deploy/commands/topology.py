"""``chatbus topology``: the exchanges, queues and bindings of the code, and those of the broker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bus.admin import topology_apply
from bus.admin.broker_layout import find_layout
from bus.admin.definitions import definitions
from bus.admin.topology_plan import Difference, Layout, compare, compare_one
from bus.errors import BrokerUnavailable, QueueBusy, QueueInUse, SettingError
from bus.runtime.settings import Environment
from bus.topology import ARCHIVE, GATE, QUEUES, Queue
from bus.transport import declare, has_streams, management_api
from bus.transport.rabbitmq.management_api import QueueInfo

DIFFERENT = 3
DONE = {"missing": "created", "different": "recreated", "extra": "removed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows how the broker's exchanges, queues and bindings differ from the code's (plan), "
        "makes them agree without losing a message (apply), or writes them as definitions for "
        f"rabbitmqctl (export). Exit code {DIFFERENT}: plan found a difference; apply could not "
        "change an exchange, or with --recreate a queue."
    )
    parser.add_argument("action", choices=["plan", "apply", "export"])
    parser.add_argument("--queue", metavar="NAME", help="this one only, with its dead letters")
    parser.add_argument("--json", action="store_true", help="plan: print one JSON object")
    parser.add_argument("--dry-run", action="store_true", help="apply: change nothing, only plan")
    parser.add_argument(
        "--recreate",
        action="store_true",
        help="apply: make queues with other arguments anew, as soon as their consumers have "
        "emptied them; what they should get is refused meanwhile",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="apply: print only what could not be done"
    )
    parser.add_argument("--vhost", help="export: virtual host (default: that of BROKER_URL)")


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Raises SettingError, or BrokerUnavailable when the broker cannot be asked."""
    if arguments.action == "export":
        return _export(arguments.vhost, environment)
    command = _Topology(environment, arguments.queue, quiet=arguments.quiet)
    if arguments.action == "plan" or arguments.dry_run:
        return command.plan(as_json=arguments.json)
    return command.apply(recreate=arguments.recreate)


def wanted_queues(environment: Environment) -> tuple[Queue, ...]:
    """Those that the broker of ``environment`` should have."""
    archive = has_streams(environment.broker_url()) and environment.flag("ARCHIVE", True)
    return tuple(queue for queue in QUEUES if archive or queue != ARCHIVE)


class _Topology:
    """The broker of an environment, and the queues that were asked for."""

    def __init__(self, environment: Environment, name: str | None, *, quiet: bool) -> None:
        self._url = environment.broker_url()
        self._api = management_api(environment)
        self._everything = wanted_queues(environment)
        self._chosen = _choose(self._everything, name)
        self._quiet = quiet

    def plan(self, *, as_json: bool) -> int:
        differences = self._compare(self._find())
        _show(differences, as_json=as_json)
        return DIFFERENT if differences else 0

    def apply(self, *, recreate: bool) -> int:
        try:
            found = self._find()
        except BrokerUnavailable as error:
            return self._create_blindly(error)
        differences = self._compare(found)
        if self._refuse_other_exchanges(differences):
            return DIFFERENT
        self._create(differences, found)
        kept = [d for d in differences if not self._settle(d, found, recreate=recreate)]
        if not differences:
            self._say("nothing to do")
        # What is only too much is no reason to stop a deployment, nor is an older queue.
        return DIFFERENT if recreate and any(d.kind == "different" for d in kept) else 0

    def _find(self) -> Layout:
        return find_layout(self._url, self._api)

    def _compare(self, found: Layout) -> list[Difference]:
        if self._chosen:
            return compare_one(self._chosen, found)
        return compare(self._everything, found)

    def _create_blindly(self, reason: BrokerUnavailable) -> int:
        """Without the management API: declaring needs none."""
        self._declare(only_chosen=True)
        self._say(f"declared {self._chosen.name if self._chosen else 'all queues'}")
        self._say(f"could not compare with what the broker has: {reason}")
        return 0

    def _refuse_other_exchanges(self, differences: Sequence[Difference]) -> bool:
        others = [d for d in differences if d.kind == "different" and d.what == "exchange"]
        for difference in others:
            print(
                f"nothing changed: exchange {difference.name}: {difference.detail}; an exchange "
                "cannot be changed: stop who publishes, delete it by hand, and apply again"
            )
        return bool(others)

    def _create(self, differences: Sequence[Difference], found: Layout) -> None:
        # A new exchange needs all its bindings, and behind a gate that was left anything may be
        # missing.
        whole = any(queue.name == GATE.name for queue in found.queues) or any(
            d.kind == "missing" and d.what == "exchange" for d in differences
        )
        if whole or any(d.kind == "missing" for d in differences):
            self._declare(only_chosen=not whole)

    def _declare(self, *, only_chosen: bool) -> None:
        if self._chosen and only_chosen:
            declare(self._url, [self._chosen])
        elif self._api:
            topology_apply.create(self._url, self._everything)
        else:
            declare(self._url, self._everything)

    def _settle(self, difference: Difference, found: Layout, *, recreate: bool) -> bool:
        """Whether ``difference`` is gone now; if not, says why."""
        try:
            self._change(difference, found, recreate=recreate)
        except (QueueInUse, QueueBusy) as error:
            print(f"kept {difference.what} {difference.name}: {error}")
            return False
        self._say(f"{DONE[difference.kind]} {difference.what} {difference.name}")
        return True

    def _change(self, difference: Difference, found: Layout, *, recreate: bool) -> None:
        if difference.kind == "missing":
            return
        if self._api is None:
            raise QueueInUse("on Redis nothing is removed")
        if difference.kind == "extra":
            topology_apply.remove(self._url, self._api, difference, found)
        elif recreate and isinstance(difference.item, QueueInfo):
            queue = _by_name(self._everything)[difference.name]
            topology_apply.recreate(self._url, self._api, queue, difference.item, found)
        else:
            raise QueueInUse(f"{difference.detail}; apply --recreate makes it anew, once empty")

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line)


def _choose(queues: Sequence[Queue], name: str | None) -> Queue | None:
    if name is None:
        return None
    choice = {queue.name: queue for queue in queues}
    if name not in choice:
        raise SettingError("--queue", f"{name!r} is no queue; accepted are {', '.join(choice)}")
    return choice[name]


def _by_name(queues: Sequence[Queue]) -> dict[str, Queue]:
    """Dead-letter queues included."""
    dead = [queue.dead_letters for queue in queues if queue.dead_letters]
    return {queue.name: queue for queue in (*queues, *dead)}


def _export(vhost: str | None, environment: Environment) -> int:
    if vhost is None:
        api = management_api(environment)
        if api is None:
            raise SettingError(
                "BROKER_URL", "is Redis, and definitions are RabbitMQ's; give --vhost"
            )
        vhost = api.vhost
    queues = [q for q in QUEUES if q != ARCHIVE or environment.flag("ARCHIVE", True)]
    print(json.dumps(definitions(queues, vhost), indent=2))
    return 0


def _show(differences: Sequence[Difference], *, as_json: bool) -> None:
    rows = [
        {"kind": d.kind, "what": d.what, "name": d.name, "detail": d.detail} for d in differences
    ]
    if as_json:
        print(json.dumps({"differences": rows}))
    elif not rows:
        print("no difference")
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        print("\n".join("\t".join(filter(None, row.values())) for row in rows))


def _print_table(rows: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console(markup=False).print(table)
