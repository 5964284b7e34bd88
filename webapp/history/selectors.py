"""Pages of a room's history, in the order of message ids."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import pymongo
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import PyMongoError

from bus.errors import StoreUnavailable
from webapp.history.store import messages
from webapp.project.errors import Unavailable

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
# Of a page in JSON: 200 of the longest messages would be 4.8 MB, for each of those who ask.
MAX_PAGE_BYTES = 1024 * 1024
WHOLE_ROOM_SECONDS = 600.0
# A document without an author is an edit or deletion that came before its message.
_IS_POSTED = {"user": {"$exists": True}}


@dataclass(frozen=True, slots=True)
class Range:
    """Selects the latest messages, or those directly ``before`` or ``after`` an id."""

    before: uuid.UUID | None = None
    after: uuid.UUID | None = None
    limit: int = DEFAULT_LIMIT


def history_page(room_id: uuid.UUID, wanted: Range) -> tuple[list[msgspec.Raw], bool]:
    """The messages in ``wanted`` as JSON, newest last, and whether more follow in that direction.

    At MAX_PAGE_BYTES a page ends early, but it has at least one message. Raises Unavailable when
    MongoDB cannot answer.
    """
    query: dict[str, Any] = {"room_id": str(room_id)} | _IS_POSTED
    if wanted.before:
        query["id"] = {"$lt": str(wanted.before)}
    if wanted.after:
        query["id"] = {"$gt": str(wanted.after)}
    # Sorted by `id`, not `_id`, because the index is on (room_id, id).
    direction = ASCENDING if wanted.after else DESCENDING
    try:
        with messages.find(query).sort("id", direction).limit(wanted.limit + 1) as found:
            page, has_more = _fill(found, wanted.limit)
    except PyMongoError as error:
        logger.warning("MongoDB: %s", error)
        raise Unavailable("The history cannot be read now. Try again in a moment.") from error
    if not wanted.after:
        page.reverse()
    return page, has_more


def _fill(found: Iterable[dict[str, Any]], limit: int) -> tuple[list[msgspec.Raw], bool]:
    """What of ``found`` fits into a page, and whether that leaves anything out."""
    page: list[msgspec.Raw] = []
    size = 0
    for document in found:
        message = msgspec.json.encode(_message(document))
        size += len(message) + 1
        if len(page) == limit or (page and size > MAX_PAGE_BYTES):
            return page, True
        page.append(msgspec.Raw(message))
    return page, False


def known_ids(ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of ``ids`` are messages in the history. Raises StoreUnavailable."""
    return set(_ids({"_id": {"$in": [str(event_id) for event_id in ids]}}))


def ids_in_room(room_id: uuid.UUID) -> list[uuid.UUID]:
    """The ids of all messages that the history has of a room, in no order.

    It may take minutes for millions of messages. Raises StoreUnavailable.
    """
    with pymongo.timeout(WHOLE_ROOM_SECONDS):
        return _ids({"room_id": str(room_id)})


def _ids(query: dict[str, Any]) -> list[uuid.UUID]:
    try:
        found = messages.find(query | _IS_POSTED, {"id": 1, "_id": 0})
        return [uuid.UUID(document["id"]) for document in found]
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB: {error}") from error


def _message(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": document["id"],
        "room_id": document["room_id"],
        "user": document["user"],
        "body": document["body"],
        "at": document["at"],
        "edited_at": document["edited_at"],
        "deleted_at": document["deleted_at"],
    }
