"""The MongoDB collection that ``mongo_writer`` writes, opened for reading."""

from __future__ import annotations

import warnings
from typing import Any

from django.conf import settings
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from bus.errors import SettingError

TIMEOUT_MS = 2_000


def open_messages(url: str) -> Collection[dict[str, Any]]:
    """The collection ``messages`` at ``url``. Raises SettingError.

    It connects on the first read, so each worker process does so after the fork.
    """
    try:
        with warnings.catch_warnings():
            # pymongo warns of an option's bad value, and connects without the option.
            warnings.simplefilter("error", UserWarning)
            client: MongoClient[dict[str, Any]] = MongoClient(
                url,
                connect=False,
                serverSelectionTimeoutMS=TIMEOUT_MS,
                connectTimeoutMS=TIMEOUT_MS,
                socketTimeoutMS=2 * TIMEOUT_MS,
            )
    except (PyMongoError, ValueError, OSError, UserWarning) as error:
        raise SettingError("MONGO_URL", str(error)) from error
    return client.get_default_database("chat")["messages"]


messages = open_messages(settings.MONGO_URL)
