"""Dead letters on a terminal, in lines and in JSON.

The text of a dead letter comes from outside: what a terminal would obey is escaped.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from typing import Any

from bus.admin.dead_letters import dead_queue
from bus.consuming.dead_letter import DeadLetter

SHORT = 60


def print_list(letters: list[DeadLetter]) -> None:
    """A table on a terminal, else one line a letter with tabs between the columns."""
    if not letters:
        return
    if sys.stdout.isatty():
        _print_table(letters)
    else:
        print("\n".join("\t".join(_row(letter)) for letter in letters))


def line(letter: DeadLetter) -> str:
    """Which letter, and where it goes or came from."""
    return "  ".join(_plain(word) for word in (letter.queue.name, letter.id, letter.reason))


def page(letter: DeadLetter) -> str:
    """Everything of one letter."""
    facts = {
        "queue": dead_queue(letter.queue).name,
        "id": letter.id,
        "type": letter.delivery.type,
        "room": letter.room_id,
        "reason": letter.reason,
        "exception": letter.exception,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "time": letter.time,
        "routing key": letter.routing_key,
        "redriven": letter.redriven,
        "content type": letter.delivery.content_type,
    }
    body = letter.delivery.body
    return "".join(
        f"{text}\n"
        for text in (
            *_pairs(facts, indent=""),
            "headers",
            *_pairs(letter.delivery.headers, indent="  "),
            f"body ({len(body):,} bytes)",
            *(f"  {escaped(text)}" for text in _pretty(body).split("\n")),
        )
    )


def document(letter: DeadLetter) -> dict[str, Any]:
    """The letter for programs; a body that is no UTF-8 is ``body_base64``."""
    body = letter.delivery.body
    try:
        content = {"body": body.decode()}
    except UnicodeDecodeError:
        content = {"body_base64": base64.b64encode(body).decode()}
    return {
        "queue": dead_queue(letter.queue).name,
        "id": letter.id,
        "type": letter.delivery.type,
        "room_id": letter.room_id,
        "reason": letter.reason,
        "exception": letter.exception,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "time": letter.time,
        "routing_key": letter.routing_key,
        "redriven": letter.redriven,
        "content_type": letter.delivery.content_type,
        "headers": dict(letter.delivery.headers),
        **content,
    }


def escaped(text: str) -> str:
    """``text`` without control characters and others that cannot be seen, as on one line."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _print_table(letters: Iterable[DeadLetter]) -> None:
    """Two lines a letter: eight columns side by side fit no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    table.add_column("queue\nreason", overflow="fold")
    # What `--id` wants is never broken.
    table.add_column("id\ntype, room", no_wrap=True)
    table.add_column("exception", overflow="fold")
    table.add_column("time\nattempts", overflow="fold")
    for letter in letters:
        queue, message_id, kind, room, reason, exception, attempts, time = _row(letter)
        cells = (
            f"{queue}\n{reason}",
            f"{message_id}\n{kind}, {room[:8]}",
            exception,
            f"{time}\n{attempts}",
        )
        table.add_row(*map(Text, cells))
    Console().print(table)


def _row(letter: DeadLetter) -> list[str]:
    """Queue, id, type, room, reason, exception, attempts, time."""
    exception = letter.exception or ""
    short = exception if len(exception) <= SHORT else f"{exception[:SHORT]}…"
    kind = letter.delivery.type
    values = (letter.id, kind, letter.room_id, letter.reason, short, letter.attempts, letter.time)
    return [letter.queue.name, *map(_plain, values)]


def _plain(value: object) -> str:
    return "-" if value in (None, "") else escaped(str(value))


def _pairs(values: Any, indent: str) -> Iterable[str]:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        yield f"{indent}{escaped(name):<{width}}  {_plain(value)}"


def _pretty(body: bytes) -> str:
    """JSON with indents; anything else unchanged."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode(errors="backslashreplace")
