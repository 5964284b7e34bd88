"""``chatbus deadletters``: what the consumers could not take, to look at, to try again, to drop."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from bus.admin.dead_letters import DeadLetterQueue, dead_queue, open_dead_letters
from bus.admin.queue_names import queue_named, short_name
from bus.consuming.dead_letter import DeadLetter
from bus.errors import SettingError
from bus.publishing import Publisher
from bus.runtime.settings import Environment
from bus.topology import QUEUES, Queue
from deploy.commands.flags import check_flags
from deploy.inspect import dead_letter_view

SHOWN = 100
QUEUES_WITH_DEAD_LETTERS = tuple(queue for queue in QUEUES if queue.dead_letters)
DONE = {"redrive": "redriven", "drop": "dropped"}

Handle = Callable[[DeadLetterQueue, list[DeadLetter]], None]


@dataclass(frozen=True, slots=True)
class Search:
    """Which letters: at most ``limit`` of these queues, of this id and reason where given."""

    queues: Sequence[Queue]
    message_id: str | None
    reason: str | None
    limit: int

    def takes(self, letter: DeadLetter) -> bool:
        return self.message_id in (None, letter.id) and self.reason in (None, letter.reason)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists and shows dead letters; redrives them, each to its own queue alone; or drops them. "
        "All others stay as they are. Exit code 1 if there is no letter of the given --id."
    )
    parser.add_argument("action", choices=["list", "show", *DONE])
    names = ", ".join(short_name(queue) for queue in QUEUES_WITH_DEAD_LETTERS)
    parser.add_argument("--queue", metavar="NAME", help=f"{names}, or the queue's name")
    parser.add_argument("--id", metavar="MESSAGE_ID", help="of the message")
    parser.add_argument("--reason", help="that it died of, as `list` shows it")
    parser.add_argument("--all", action="store_true", help="redrive or drop all there are")
    parser.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help=f"at most N letters (default: {SHOWN} to list or show, all to redrive or drop)",
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    parser.add_argument("--json", action="store_true", help="one JSON object a letter and line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Raises SettingError for a bad selection, and what ``bus.admin.dead_letters`` raises."""
    check_flags(arguments, {"--all": tuple(DONE), "--dry-run": tuple(DONE)})
    settles = arguments.action in DONE
    if settles and not (arguments.queue or arguments.id or arguments.reason or arguments.all):
        raise SettingError(
            arguments.action, "select dead letters with --queue, --id, --reason or --all"
        )
    search = Search(
        queues=_chosen_queues(arguments.queue),
        message_id=arguments.id,
        reason=arguments.reason,
        limit=arguments.limit or (sys.maxsize if settles else SHOWN),
    )
    act = _settle if settles else _look
    found = act(environment.broker_url(), search, arguments)
    return 0 if found or not arguments.id else 1


def _look(url: str, search: Search, arguments: argparse.Namespace) -> int:
    """Lists or shows; returns how many."""
    found: list[DeadLetter] = []
    # Printed when the queues are let go: a pager may hold up the output for hours.
    held = _walk(url, search, lambda _, letters: found.extend(letters))
    if arguments.json:
        _print_json(found)
    elif arguments.action == "show":
        print("\n".join(dead_letter_view.page(letter) for letter in found), end="")
    else:
        dead_letter_view.print_list(found)
    if not arguments.json:
        there = ", ".join(f"{name} holds {number:,}" for name, number in held.items())
        print(f"{_letters(len(found))} shown; {there}")
    return len(found)


def _settle(url: str, search: Search, arguments: argparse.Namespace) -> int:
    """Redrives or drops, or only says what it would do; returns how many."""
    done = ("would be " if arguments.dry_run else "") + DONE[arguments.action]
    count = 0

    def handle(letters: DeadLetterQueue, chosen: list[DeadLetter]) -> None:
        nonlocal count
        if not arguments.dry_run and arguments.action == "redrive":
            letters.redrive(publisher, chosen)
        elif not arguments.dry_run:
            letters.drop(chosen)
        count += len(chosen)
        if arguments.json:
            _print_json(chosen, action=done)
        else:
            print(
                "".join(f"{done}: {dead_letter_view.line(letter)}\n" for letter in chosen), end=""
            )

    with closing(Publisher(url)) as publisher:
        _walk(url, search, handle)
    if not arguments.json:
        print(f"{_letters(count)} {done}")
    return count


def _walk(url: str, search: Search, handle: Handle) -> dict[str, int]:
    """Hands over what ``search`` selects, batch by batch; how many letters each queue held."""
    held = {}
    left = search.limit
    for queue in search.queues:
        with open_dead_letters(url, queue) as letters:
            held[dead_queue(queue).name] = letters.count
            for chosen in _chosen(letters, search, left):
                handle(letters, chosen)
                left -= len(chosen)
            if left and letters.unseen:
                print(
                    f"{dead_queue(queue).name}: the last {letters.unseen:,} of {letters.count:,} "
                    "letters were not looked at; redrive or drop others first",
                    file=sys.stderr,
                )
    return held


def _chosen(letters: DeadLetterQueue, search: Search, limit: int) -> Iterator[list[DeadLetter]]:
    """What ``search`` selects of one queue, at most ``limit`` letters."""
    batches = letters.read()
    while limit and (batch := next(batches, None)):
        if chosen := [letter for letter in batch if search.takes(letter)][:limit]:
            limit -= len(chosen)
            yield chosen


def _chosen_queues(name: str | None) -> Sequence[Queue]:
    """All, or the named one; the name of its dead-letter queue is accepted, too."""
    for queue in QUEUES_WITH_DEAD_LETTERS:
        if name == dead_queue(queue).name:
            return (queue,)
    if name is None:
        return QUEUES_WITH_DEAD_LETTERS
    return (queue_named("--queue", name, QUEUES_WITH_DEAD_LETTERS, "has no dead letters"),)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}; accepted is a whole number from 1")
    return int(text)


def _print_json(letters: list[DeadLetter], **more: str) -> None:
    for letter in letters:
        print(json.dumps(more | dead_letter_view.document(letter), default=str))


def _letters(number: int) -> str:
    return f"{number:,} dead letter{'' if number == 1 else 's'}"
