"""Pages of a room's history, in the order of message ids."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import PyMongoError

from bus.errors import StoreUnavailable
from webapp.history.store import messages
from webapp.project.errors import Unavailable

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Range:
    """Which messages: the latest, those right ``before`` an id, or those right ``after`` one."""

    before: uuid.UUID | None = None
    after: uuid.UUID | None = None
    limit: int = DEFAULT_LIMIT


def history_page(room_id: uuid.UUID, wanted: Range) -> tuple[list[dict[str, Any]], bool]:
    """The messages in ``wanted``, newest last, and whether there are more in that direction.

    An edit that came before its message has left a document without author: it is not shown.
    Raises Unavailable when MongoDB cannot answer.
    """
    query: dict[str, Any] = {"room_id": str(room_id), "user": {"$exists": True}}
    if wanted.before:
        query["id"] = {"$lt": str(wanted.before)}
    if wanted.after:
        query["id"] = {"$gt": str(wanted.after)}
    # By `id`, not `_id`: the index is on (room_id, id).
    direction = ASCENDING if wanted.after else DESCENDING
    found = messages.find(query).sort("id", direction).limit(wanted.limit + 1)
    try:
        documents = list(found)
    except PyMongoError as error:
        logger.warning("MongoDB: %s", error)
        raise Unavailable("The history cannot be read now. Try again in a moment.") from error
    page = [_message(document) for document in documents[: wanted.limit]]
    if not wanted.after:
        page.reverse()
    return page, len(documents) > wanted.limit


def known_ids(ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of ``ids`` are messages in the history. Raises StoreUnavailable."""
    try:
        found = list(messages.find({"_id": {"$in": [str(i) for i in ids]}}, {"_id": 1}))
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB: {error}") from error
    return {uuid.UUID(document["_id"]) for document in found}


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
