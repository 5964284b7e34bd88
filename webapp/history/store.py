"""The collection that ``mongo_writer`` fills."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from pymongo import MongoClient
from pymongo.collection import Collection

TIMEOUT_MS = 2_000

# connect=False: nothing is opened before the fork; the first read of each process connects.
_client: MongoClient[dict[str, Any]] = MongoClient(
    settings.MONGO_URL,
    connect=False,
    serverSelectionTimeoutMS=TIMEOUT_MS,
    connectTimeoutMS=TIMEOUT_MS,
    socketTimeoutMS=2 * TIMEOUT_MS,
)
messages: Collection[dict[str, Any]] = _client.get_default_database("chat")["messages"]
