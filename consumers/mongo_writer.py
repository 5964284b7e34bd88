"""Queue ``chat.mongo_writer`` → MongoDB ``chat.messages``, the history.

A document holds the state of one message after the latest of its events. Every event carries
everything that can change (body, edited_at, deleted_at), and an older event never overwrites a
newer one, so events in any order, and repeated ones, give the same document. Times are text, as in
the events: RFC 3339 in UTC with milliseconds, which sorts chronologically.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo import DESCENDING, MongoClient, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, PyMongoError

from bus import events, topology
from bus.errors import PermanentError, SettingError, StoreUnavailable
from bus.events import Event, MessageDeleted, MessageEdited, MessageEvent, MessagePosted
from bus.runtime.health import PROBE_SECONDS
from bus.runtime.settings import Environment
from consumers import process

DUPLICATE_KEY = 11_000
# Errors of the document itself (https://www.mongodb.com/docs/manual/reference/error-codes/):
# BadValue, TypeMismatch, DocumentValidationFailure, BSONObjectTooLarge. Any other may pass.
PERMANENT = frozenset({2, 14, 121, 10_334})
TIMEOUT_MS = 10_000
# The embedded server's name in its answer to buildInfo.
EMBEDDED = "nx_27017"
Document = dict[str, Any]


def open_messages(url: str) -> Collection[Document]:
    """The collection ``messages`` of the database in ``url`` (``chat`` if it names none).

    It does not connect yet. Raises SettingError for a URL that pymongo refuses.
    """
    try:
        with warnings.catch_warnings():
            # pymongo warns of an option's bad value, and connects without the option.
            warnings.simplefilter("error", UserWarning)
            client: MongoClient[Document] = MongoClient(
                url, serverSelectionTimeoutMS=TIMEOUT_MS, socketTimeoutMS=2 * TIMEOUT_MS
            )
    except (PyMongoError, ValueError, OSError, UserWarning) as error:
        raise SettingError("MONGO_URL", str(error)) from error
    database = client.get_default_database("chat")
    return database.get_collection(
        "messages", write_concern=WriteConcern("majority", wtimeout=TIMEOUT_MS)
    )


class MongoWriter:
    """The sink: acknowledged by a majority of the replica set, or not at all."""

    def __init__(self, messages: Collection[Document]) -> None:
        self._messages = messages
        self._indexed = False

    def store(self, batch: Sequence[Event]) -> None:
        posted = [event for event in batch if isinstance(event, MessagePosted)]
        changes = [event for event in batch if isinstance(event, MessageEdited | MessageDeleted)]
        try:
            self._ensure_index()
            self._insert(posted)
            # A posting, or another writer's upsert, may come between an upsert's search and its
            # insert: only a second 11000 means that the document has a newer state.
            again = self._write([_change(event) for event in changes])
            self._write(again)
        except PyMongoError as error:
            raise StoreUnavailable(f"MongoDB: {error}") from error

    def ping(self) -> None:
        """Raises PyMongoError when no server answers that accepts writes."""
        with pymongo.timeout(PROBE_SECONDS):
            self._messages.database.command("ping")

    def _ensure_index(self) -> None:
        """Creates the index of history pages before the first write of a process.

        ``id`` repeats ``_id``, because the embedded server neither uses an index for a range of
        ``_id`` nor accepts inserts beside a compound index that contains it. That server also
        uses indexes on a single field only; on MongoDB such an index would be superfluous.
        """
        if self._indexed:
            return
        self._messages.create_index([("room_id", DESCENDING), ("id", DESCENDING)])
        server = self._messages.database.client.admin.command("buildInfo")
        if server.get("process") == EMBEDDED:
            self._messages.create_index("room_id")
        self._indexed = True

    def _insert(self, posted: list[MessagePosted]) -> None:
        """Inserts new documents, and completes those that an edit or deletion made first."""
        if not posted:
            return
        try:
            self._messages.insert_many([_document(event) for event in posted], ordered=False)
        except BulkWriteError as error:
            known = [posted[index] for index in _duplicates(error)]
            self._write([_completion(event) for event in known])

    def _write(self, updates: list[UpdateOne]) -> list[UpdateOne]:
        """Returns the updates that changed nothing, because another document has the id."""
        if not updates:
            return []
        try:
            self._messages.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            return [updates[index] for index in _duplicates(error)]
        return []


def _duplicates(error: BulkWriteError) -> list[int]:
    """Positions of the writes that failed because the document, or a newer state, exists.

    Under majority write concern only code 11000 is safe to ignore. Raises StoreUnavailable or
    PermanentError for others.
    """
    failures = error.details["writeErrors"]
    others = [failure for failure in failures if failure["code"] != DUPLICATE_KEY]
    transient = [failure for failure in others if failure["code"] not in PERMANENT]
    if error.details["writeConcernErrors"] or transient:
        raise StoreUnavailable(f"MongoDB: {error}") from error
    if others:
        raise PermanentError(f"MongoDB refused: {others[0]['errmsg']}") from error
    return [failure["index"] for failure in failures]


def _document(event: MessagePosted) -> Document:
    message_id = str(event.id)
    return {
        "_id": message_id,
        "id": message_id,
        **_origin(event),
        **_state(event),
        "stored_at": events.format_time(datetime.now(UTC)),
    }


def _origin(event: MessagePosted) -> Document:
    """The fields that only the posting has."""
    user = {"id": event.actor.id, "name": event.actor.name}
    return {"room_id": str(event.room_id), "user": user, "at": event.at}


def _state(event: MessageEvent) -> Document:
    """The fields that a later event can change, as ``event`` leaves them."""
    body = "" if isinstance(event, MessageDeleted) else event.data.body
    return {
        "body": body,
        "edited_at": event.at if isinstance(event, MessageEdited) else None,
        "deleted_at": event.at if isinstance(event, MessageDeleted) else None,
        "last_event_id": str(event.id),
    }


def _completion(event: MessagePosted) -> UpdateOne:
    return UpdateOne({"_id": str(event.id), "user": {"$exists": False}}, {"$set": _origin(event)})


def _change(event: MessageEdited | MessageDeleted) -> UpdateOne:
    """Applies ``event`` unless the document has the state of a newer one.

    If it has, the filter finds nothing, and the upsert's insert fails with 11000.
    """
    message_id = str(event.data.message_id)
    return UpdateOne(
        {"_id": message_id, "last_event_id": {"$lt": str(event.id)}},
        {
            "$set": _state(event),
            "$setOnInsert": {
                "id": message_id,
                "room_id": str(event.room_id),
                "stored_at": events.format_time(datetime.now(UTC)),
            },
        },
        upsert=True,
    )


def open_sink(environment: Environment, stack: ExitStack) -> MongoWriter:
    messages = open_messages(environment.mongo_url())
    stack.callback(messages.database.client.close)
    return MongoWriter(messages)


def main(environment: Environment) -> None:
    process.run(environment, topology.MONGO_WRITER, open_sink)
