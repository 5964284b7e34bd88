"""Where an event is: what the archive, MongoDB, Redis and the queues know of it.

Each place answers for itself: one that is away makes only its own answer unknown.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from bus import events
from bus.admin.dead_letters import dead_queue, open_dead_letters
from bus.consuming.backfill import CLOCK_SKEW
from bus.consuming.dead_letter import DeadLetter
from bus.errors import BusError, InvalidEvent, StoreUnavailable, reason
from bus.events import Event, MessageDeleted, MessageEdited
from bus.message import Delivery
from bus.rooms.log_search import find
from bus.rooms.model import SEEN_SECONDS
from bus.runtime.settings import Environment
from bus.runtime.trace import HEADER, trace_id_of
from bus.topology import ARCHIVE, MONGO_WRITER, REDIS_PUBLISHER, Queue, pause_queue
from bus.transport import connect_admin, depth, has_streams
from bus.transport.rabbitmq.stream import read_stream

LONGEST_REASON = 200
# A person waits for the answer: less than what a consumer waits for the store.
MONGO_SECONDS = 3.0

State = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one place says: a sentence for people, ``facts`` for programs."""

    state: State
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def ask(lookup: Callable[[], Answer]) -> Answer:
    """The answer of ``lookup``, or why there is none: the text of an error names its server."""
    try:
        return lookup()
    except BusError as error:
        return Answer("unknown", " ".join(reason(error).split())[:LONGEST_REASON])


def broker(environment: Environment) -> Answer:
    """Whether it answers at all; the others are not asked when it doesn't."""
    with closing(connect_admin(environment.broker_url())) as admin:
        admin.ping()
    return Answer("yes", "answers")


def accepted(url: str, event_id: uuid.UUID, since: datetime, within: timedelta) -> Answer:
    """The event in the archive, of what came there in the time ``within`` from ``since`` on."""
    if not has_streams(url):
        return Answer("unknown", "this broker keeps no archive: Redis has no streams")
    if depth(url, ARCHIVE) is None:
        return Answer("unknown", f"this broker keeps no archive: there is no {ARCHIVE.name}")
    delivery = _archived(url, event_id, since, within)
    if delivery is None:
        hours = within / timedelta(hours=1)
        period = f"within {hours:g} h from {events.format_time(since)} on"
        return Answer("no", f"not in {ARCHIVE.name} {period}; --within HOURS looks further")
    offset = delivery.headers["x-stream-offset"]
    text = f"in {ARCHIVE.name} at offset {offset}, routing key {delivery.routing_key}"
    facts = {"offset": offset, "routing_key": delivery.routing_key, **_facts(delivery)}
    return Answer("yes", text, facts)


def stored(environment: Environment, event_id: uuid.UUID, facts: Mapping[str, Any]) -> Answer:
    """Whether the document of the event's message in MongoDB knows this event of it.

    ``facts`` is what is known of the event: its id alone does not say which message a change is
    about.
    """
    message_id = uuid.UUID(facts.get("message_id", str(event_id)))
    document = _document(environment.mongo_url(), message_id)
    if document is None and "type" not in facts:
        return Answer("unknown", "no message of this id in MongoDB; perhaps another kind of event")
    if document is None or document["last_event_id"] < str(event_id):
        return Answer("no", "not in MongoDB")
    if event_id == message_id and "user" not in document:
        return Answer("no", "not in MongoDB, where only a later change of it is")
    names = ("room_id", "stored_at", "edited_at", "deleted_at")
    changes = [
        f"; {name.removesuffix('_at')} {document[name]}"
        for name in ("edited_at", "deleted_at")
        if document[name]
    ]
    text = f"in MongoDB since {document['stored_at']}{''.join(changes)}"
    return Answer("yes", text, {name: document[name] for name in names})


def logged(url: str, room_id: uuid.UUID | None, event_id: uuid.UUID) -> Answer:
    """The event in its room's log in Redis."""
    if room_id is None:
        return Answer("unknown", "the room is not known; give it with --room")
    sighting = find(url, room_id, event_id)
    if sighting is None:
        return _not_logged(event_id)
    since = f"{sighting.since:%Y-%m-%dT%H:%M:%SZ}" if sighting.since else None
    facts = {"epoch": sighting.epoch, "offset": sighting.offset, "logged_at": since}
    if sighting.event:
        facts |= _about(sighting.event)
    when = f" since {since}" if since else ""
    if sighting.offset is None:
        return Answer("yes", f"was logged {since}; trimmed from the log since then", facts)
    place = f"in the room's log{when} at offset {sighting.offset} of epoch {sighting.epoch}"
    return Answer("yes", place, facts)


def dead(url: str, queue: Queue, event_id: uuid.UUID) -> Answer:
    """The event among the dead letters of ``queue``."""
    name = dead_queue(queue).name
    with open_dead_letters(url, queue) as letters:
        batches = letters.read()
        found = [letter for batch in batches for letter in batch if letter.id == str(event_id)]
        unseen = letters.unseen
    if found:
        return _dead(name, found[-1])
    if unseen:
        return Answer("unknown", f"not among the first of {name}; {unseen:,} were not looked at")
    return Answer("no", f"not in {name}")


def waiting(url: str, queue: Queue, sunk: Answer, dead_letter: Answer, is_accepted: bool) -> Answer:
    """Whether the event must still be on ``queue``, by exclusion: a queue cannot be searched.

    ``sunk`` and ``dead_letter`` say whether it went on to the sink or to the dead letters.
    """
    if "yes" in (sunk.state, dead_letter.state):
        return Answer("no", f"no longer in {queue.name}")
    with closing(connect_admin(url)) as admin:
        count = admin.depth(queue) or 0
        is_paused = bool(admin.depth(pause_queue(queue)))
    state, text = _waiting(queue, count, sunk.state, is_accepted)
    if state == "unknown" and not count and has_streams(url):
        word = queue.name.removeprefix("chat.")
        text += f" (then: chatbus replay --into {word})"
    paused = "; its consumers are paused" if is_paused else ""
    return Answer(state, text + paused, {"depth": count, "paused": is_paused})


def sink_of(queue: Queue, *, stored: Answer, logged: Answer) -> Answer:
    """The answer about the sink behind ``queue``."""
    sinks = {MONGO_WRITER.name: stored, REDIS_PUBLISHER.name: logged}
    return sinks.get(queue.name) or Answer(
        "unknown", f"trace does not know the sink of {queue.name}"
    )


def _document(url: str, message_id: uuid.UUID) -> Mapping[str, Any] | None:
    import pymongo
    from pymongo.errors import PyMongoError

    from consumers.mongo_writer import open_messages

    messages = open_messages(url)
    try:
        with pymongo.timeout(MONGO_SECONDS):
            return messages.find_one({"_id": str(message_id)})
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB: {error}") from error
    finally:
        messages.database.client.close()


def _archived(url: str, event_id: uuid.UUID, since: datetime, within: timedelta) -> Delivery | None:
    """The archive has no index but the time at which it took an event."""
    end = int((since + within + CLOCK_SKEW).timestamp())
    for batch in read_stream(url, ARCHIVE, since - CLOCK_SKEW):
        for delivery in batch:
            if delivery.message_id == str(event_id):
                return delivery
        # The archive is in the order of publishing: what follows a later event is later too.
        if any((delivery.timestamp or 0) > end for delivery in batch):
            return None
    return None


def _facts(delivery: Delivery) -> dict[str, Any]:
    """What a delivery says of its event; ``message_id``: which message the event is about."""
    trace = {"trace_id": trace_id_of(delivery.headers.get(HEADER))}
    try:
        event = events.decode(delivery.body)
    except InvalidEvent:
        return {"type": delivery.type, **trace}
    return {**_about(event), **trace}


def _about(event: Event) -> dict[str, Any]:
    message_id = event.id
    if isinstance(event, MessageEdited | MessageDeleted):
        message_id = event.data.message_id
    return {"type": event.type, "room_id": str(event.channel_id), "message_id": str(message_id)}


def _not_logged(event_id: uuid.UUID) -> Answer:
    if datetime.now(UTC) - events.time_of(event_id) < timedelta(seconds=SEEN_SECONDS):
        return Answer("no", "not in the room's log")
    return Answer("unknown", "not in the room's log; Redis forgets what it had there after an hour")


def _dead(name: str, letter: DeadLetter) -> Answer:
    times = f", redriven {letter.redriven} times before" if letter.redriven else ""
    text = f"in {name} since {letter.time}: {letter.reason}{times}; chatbus deadletters show"
    facts = {"reason": letter.reason, "time": letter.time, "exception": letter.exception}
    return Answer("yes", f"{text} --id {letter.id}", facts | _facts(letter.delivery))


def _waiting(queue: Queue, depth: int, sunk: State, is_accepted: bool) -> tuple[State, str]:
    before = f"{depth:,} message{'' if depth == 1 else 's'} before the consumers"
    if not is_accepted or sunk == "unknown":
        return ("unknown" if depth else "no"), f"{queue.name} holds {before}"
    if depth:
        return "yes", f"waiting in {queue.name}, {before}"
    return "unknown", (
        f"not on {queue.name}, nor beyond it: in flight in a consumer at this moment, or lost"
    )
