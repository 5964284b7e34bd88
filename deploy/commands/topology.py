"""``chatbus topology``: compares the broker's exchanges, queues and bindings with the code's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bus.admin import topology_apply
from bus.admin.broker_layout import find_layout
from bus.admin.definitions import definitions
from bus.admin.queue_names import queue_named
from bus.admin.topology_plan import Difference, Layout, compare, compare_one
from bus.errors import BrokerUnavailable, QueueBusy, QueueInUse, SettingError
from bus.runtime.settings import Environment
from bus.topology import ARCHIVE, GATE, QUEUES, Queue
from bus.transport import declare, has_streams, management_api
from bus.transport.rabbitmq.management_api import QueueInfo
from deploy.commands.flags import check_flags

DIFFERENT = 3
FLAGS = {
    "--json": ("plan", "apply"),
    "--dry-run": ("plan", "apply"),
    "--recreate": ("apply",),
    "--quiet": ("apply",),
    "--vhost": ("export",),
}
DONE = {"missing": "created", "different": "recreated", "extra": "removed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows how the broker's exchanges, queues and bindings differ from the code's (plan), "
        "makes them agree without losing a message (apply), or writes them as definitions for "
        f"rabbitmqctl (export). Exit code {DIFFERENT}: plan found a difference; apply could not "
        "change an exchange, or with --recreate a queue."
    )
    parser.add_argument("action", choices=["plan", "apply", "export"])
    parser.add_argument(
        "--queue",
        metavar="NAME",
        help="this one only, with its dead letters: mongo_writer, chat.mongo_writer, …; apply "
        "makes all queues if an exchange of it is missing",
    )
    parser.add_argument(
        "--json", action="store_true", help="plan, apply --dry-run: print one JSON object"
    )
    parser.add_argument("--dry-run", action="store_true", help="apply: change nothing, only plan")
    parser.add_argument(
        "--recreate",
        action="store_true",
        help="apply: recreate queues whose arguments differ, once their consumers have emptied "
        "them; until then the broker refuses new messages for them",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="apply: print only what could not be done"
    )
    parser.add_argument("--vhost", help="export: virtual host (default: that of BROKER_URL)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Raises SettingError, or BrokerUnavailable when the broker does not answer."""
    check_flags(arguments, FLAGS)
    if arguments.action == "export":
        return _export(arguments.vhost, arguments.queue, environment)
    command = _Topology(environment, arguments.queue, quiet=arguments.quiet)
    if arguments.action == "plan" or arguments.dry_run:
        return command.plan(as_json=arguments.json)
    if arguments.json:
        raise SettingError("--json", "apply prints lines; accepted is apply --dry-run --json")
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
        self._chosen = queue_named("--queue", name, self._everything) if name else None
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
        differences = self._create(differences, found)
        kept = [d for d in differences if not self._settle(d, found, recreate=recreate)]
        if not differences:
            self._say("nothing to do")
        # An extra queue or an older one must not stop a deployment.
        return DIFFERENT if recreate and any(d.kind == "different" for d in kept) else 0

    def _find(self) -> Layout:
        return find_layout(self._url, self._api)

    def _compare(self, found: Layout) -> list[Difference]:
        if self._chosen:
            return compare_one(self._chosen, found)
        return compare(self._everything, found)

    def _create_blindly(self, reason: BrokerUnavailable) -> int:
        """Without the management API, which declaring does not need."""
        one = (
            self._chosen
            if self._chosen and topology_apply.has_exchanges_of(self._url, self._chosen)
            else None
        )
        self._declare(one)
        self._say(f"declared {one.name if one else 'all queues'}")
        self._say(f"could not compare with what the broker has: {reason}")
        return 0

    def _refuse_other_exchanges(self, differences: Sequence[Difference]) -> bool:
        others = [d for d in differences if d.kind == "different" and d.what == "exchange"]
        for difference in others:
            print(
                f"nothing changed: exchange {difference.name}: {difference.detail}; an exchange "
                "cannot be changed: stop all publishers, delete it by hand, and apply again"
            )
        return bool(others)

    def _create(self, differences: list[Difference], found: Layout) -> list[Difference]:
        """Makes what is missing; all that differed, with what had to be made besides.

        A new exchange needs all its queues: RabbitMQ confirms an event that reaches only some.
        Behind a gate that was left, anything may be missing.
        """
        whole = any(queue.name == GATE.name for queue in found.queues) or any(
            d.kind == "missing" and d.what == "exchange" for d in differences
        )
        if whole:
            others = [d for d in compare(self._everything, found) if d.kind == "missing"]
            differences = [*differences, *(d for d in others if d not in differences)]
        if whole or any(d.kind == "missing" for d in differences):
            self._declare(None if whole else self._chosen)
        return differences

    def _declare(self, one: Queue | None) -> None:
        if one:
            declare(self._url, [one])
        elif self._api:
            topology_apply.create(self._url, self._everything)
        else:
            declare(self._url, self._everything)

    def _settle(self, difference: Difference, found: Layout, *, recreate: bool) -> bool:
        """Whether ``difference`` is gone now; prints why if it is not."""
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
            raise QueueInUse(f"{difference.detail}; apply --recreate replaces it once it is empty")

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line)


def _by_name(queues: Sequence[Queue]) -> dict[str, Queue]:
    """Dead-letter queues included."""
    dead = [queue.dead_letters for queue in queues if queue.dead_letters]
    return {queue.name: queue for queue in (*queues, *dead)}


def _export(vhost: str | None, name: str | None, environment: Environment) -> int:
    if vhost is None:
        api = management_api(environment)
        if api is None:
            raise SettingError(
                "BROKER_URL", "is Redis, but definitions are for RabbitMQ; give --vhost"
            )
        vhost = api.vhost
    queues = [q for q in QUEUES if q != ARCHIVE or environment.flag("ARCHIVE", True)]
    if name:
        queues = [queue_named("--queue", name, queues)]
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
