"""Transactions that are tried again when another one was in their way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection, transaction

from webapp.project.database_errors import is_conflict

logger = logging.getLogger(__name__)

TRIES = 3

P = ParamSpec("P")
Result = TypeVar("Result")


def atomic(function: Callable[P, Result]) -> Callable[P, Result]:
    """Runs ``function`` in a transaction, as Django's decorator does, up to TRIES times in all.

    It runs again when the database has undone the transaction for a deadlock, or when a lock was
    not to be had in time. So it may do nothing but read and write the database: what leaves the
    process waits for ``transaction.on_commit``. Once committed it is never run again, also when
    what waited for the commit fails. Within another transaction it runs once: that one is to be
    repeated as a whole.
    """

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> Result:
        tries = 1 if connection.in_atomic_block else TRIES
        while True:
            tries -= 1
            commits: list[bool] = []
            try:
                with transaction.atomic():
                    transaction.on_commit(lambda commits=commits: commits.append(True))
                    return function(*arguments, **options)
            except OperationalError as error:
                if not tries or commits or not is_conflict(error):
                    raise
                logger.info("%s is tried again: %s", function.__qualname__, error)

    return run
