"""``chatbus trace MESSAGE_ID``: where is my message?"""

from __future__ import annotations

import argparse
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bus import events
from bus.errors import SettingError
from bus.runtime.settings import Environment
from bus.topology import EVENT_QUEUES, Queue
from deploy.inspect import message_lookup
from deploy.inspect.dead_letter_view import escaped
from deploy.inspect.message_lookup import Answer, ask

# RFC 9562: version 7 begins with the time, in milliseconds.
TIME_ORDERED = 7
TIME_SHIFT = 80
DAY_MILLISECONDS = 86_400_000
MOST_HOURS = 10_000.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``queue``: the one that it is about, if any."""

    name: str
    answer: Answer
    queue: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says where a message is: accepted, stored, logged in Redis, dead, or still waiting. "
        "Exit code 0 if it was found anywhere, 1 if nowhere."
    )
    parser.add_argument("message_id", metavar="MESSAGE_ID", help="as the POST's answer has it")
    parser.add_argument("--room", metavar="ROOM_ID", help="its room, where no server knows it")
    parser.add_argument(
        "--within",
        type=_hours,
        default=1.0,
        metavar="HOURS",
        help="search the archive this far from the message's time on, and back from when it was "
        "stored (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Raises SettingError for what is not an id."""
    event_id = _event_id(arguments.message_id)
    room_id = _uuid("--room", arguments.room) if arguments.room else None
    findings = _search(environment, event_id, room_id, timedelta(hours=arguments.within))
    if arguments.json:
        print(json.dumps(_document(event_id, findings)))
    else:
        print("\n".join(_lines(event_id, findings)))
    return 0 if _found(findings) else 1


def _search(
    environment: Environment, event_id: uuid.UUID, room_id: uuid.UUID | None, within: timedelta
) -> list[Finding]:
    """Asks every place. What one knows of the event helps to look it up in the next."""
    on_broker = _broker(environment)
    accepted = on_broker(message_lookup.accepted, event_id, events.time_of(event_id), within)
    dead = [on_broker(message_lookup.dead, queue, event_id) for queue in EVENT_QUEUES]
    facts = _facts([accepted, *dead], {"room_id": str(room_id)} if room_id else {})
    answers = _ask_stores(environment, event_id, facts)
    facts = _facts(answers.values(), facts)
    if accepted.state == "no" and (stored_at := answers["stored"].facts.get("stored_at")):
        # An imported message is archived at its import, shortly before it is stored.
        since = datetime.fromisoformat(stored_at) - within
        accepted = on_broker(message_lookup.accepted, event_id, since, within)
        facts = _facts([accepted], facts)
    findings = [
        Finding("accepted", accepted),
        Finding("stored", answers["stored"]),
        Finding("logged", answers["logged"]),
        *(Finding("dead", a, queue.name) for queue, a in zip(EVENT_QUEUES, dead, strict=True)),
    ]
    is_accepted = _found(findings)
    for queue, dead_letter in zip(EVENT_QUEUES, dead, strict=True):
        if _takes(queue, facts):
            sunk = message_lookup.sink_of(queue, **answers)
            answer = on_broker(message_lookup.waiting, queue, sunk, dead_letter, is_accepted)
            findings.append(Finding("waiting", answer, queue.name))
    return findings


def _ask_stores(
    environment: Environment, event_id: uuid.UUID, facts: Mapping[str, Any]
) -> dict[str, Answer]:
    """What Redis ("logged") and MongoDB ("stored") answer, each asked once."""
    lookups = {
        "logged": partial(_logged, environment, event_id),
        "stored": partial(_stored, environment, event_id),
    }
    answers: dict[str, Answer] = {}
    # Only the room log needs the room, and says more of the event; MongoDB may name the room.
    for place in ("logged", "stored") if "room_id" in facts else ("stored", "logged"):
        answers[place] = lookups[place](_facts(answers.values(), facts))
    return answers


def _logged(environment: Environment, event_id: uuid.UUID, facts: Mapping[str, Any]) -> Answer:
    room_id = _room(facts)
    return ask(lambda: message_lookup.logged(environment.redis_url(), room_id, event_id))


def _stored(environment: Environment, event_id: uuid.UUID, facts: Mapping[str, Any]) -> Answer:
    return ask(partial(message_lookup.stored, environment, event_id, facts))


def _broker(environment: Environment) -> Callable[..., Answer]:
    """Asks the broker, unless it gave no answer the first time: a stalled one takes seconds."""
    broker = ask(partial(message_lookup.broker, environment))
    if broker.state == "unknown":
        return lambda lookup, *arguments: broker
    url = environment.broker_url()
    return lambda lookup, *arguments: ask(partial(lookup, url, *arguments))


def _facts(answers: Iterable[Answer], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What ``answers`` add to what is known of the event; the first to name a fact is believed."""
    facts = dict(known or {})
    for answer in answers:
        facts = {name: value for name, value in answer.facts.items() if value} | facts
    return facts


def _room(facts: Mapping[str, Any]) -> uuid.UUID | None:
    return uuid.UUID(facts["room_id"]) if "room_id" in facts else None


def _takes(queue: Queue, facts: Mapping[str, Any]) -> bool:
    """Whether the event, as far as it is known, came to ``queue``."""
    return "type" not in facts or queue.takes(
        events.routing_key(facts.get("room_id"), facts["type"])
    )


def _found(findings: Iterable[Finding]) -> bool:
    return any(each.answer.state == "yes" for each in findings)


def _lines(event_id: uuid.UUID, findings: list[Finding]) -> Iterable[str]:
    facts = _facts(each.answer for each in findings)
    yield f"{event_id}  {events.timestamp(event_id)}"
    for name in ("type", "room_id", "trace_id"):
        if name in facts:
            yield f"{name:<9} {escaped(str(facts[name]))}"
    for each in findings:
        yield f"{each.name:<9} {each.answer.state:<8} {escaped(each.answer.text)}"
    if not _found(findings):
        yield "found nowhere"


def _document(event_id: uuid.UUID, findings: list[Finding]) -> dict[str, Any]:
    return {
        "id": str(event_id),
        "time": events.timestamp(event_id),
        "found": _found(findings),
        "parts": [
            {
                "part": each.name,
                **({"queue": each.queue} if each.queue else {}),
                "state": each.answer.state,
                "text": each.answer.text,
                **each.answer.facts,
            }
            for each in findings
        ],
    }


def _event_id(text: str) -> uuid.UUID:
    """A UUIDv7 of a time up to now, or a day later by a wrong clock."""
    event_id = _uuid("MESSAGE_ID", text)
    latest = events.new_id().int + (DAY_MILLISECONDS << TIME_SHIFT)
    if event_id.version != TIME_ORDERED or event_id.int > latest:
        raise SettingError("MESSAGE_ID", f"{event_id} is no message's id; accepted is a UUIDv7")
    return event_id


def _uuid(name: str, text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise SettingError(
            name, f"{text!r} is no id; accepted is a UUID like {events.new_id()}"
        ) from None


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(
            f"{text!r}; accepted are hours, more than 0 and at most {MOST_HOURS:g}"
        )
    return hours
