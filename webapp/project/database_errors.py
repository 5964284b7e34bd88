"""What an error of the database means: that it is away, or that a transaction was in the way."""

from __future__ import annotations

import sqlite3

from django.db import Error, InterfaceError, InternalError, OperationalError

# Of MySQL: unknown column, mixed collations, a wrong value, text that the column cannot hold.
# mysqlclient calls them operational, though the same statement fails at any other time too.
_FAULTY_STATEMENTS = frozenset({1054, 1267, 1292, 1366})
# Of MySQL: the lock wait timed out, a deadlock or (by Galera) a conflict of two nodes.
_CONFLICTS = frozenset({1205, 1213})


def is_outage(error: BaseException) -> bool:
    """Whether the database could not be reached, or cannot do now what it is asked to.

    It is lost, stalled, read-only, full, without quorum, or busy with others: the same request
    may succeed later. An error in a statement or in the tables is none.
    """
    if isinstance(error, OperationalError):
        return not _is_faulty_statement(error)
    # Of a closed connection, and of MySQL's files (codes below 1000), such as a full disk.
    return isinstance(error, InterfaceError | InternalError)


def is_conflict(error: Error) -> bool:
    """Whether MySQL ended the transaction because another was in its way, so that the whole
    transaction may be tried again at once."""
    return _code(error) in _CONFLICTS


def name_of(error: Error) -> str:
    """``error 1290`` or ``SQLITE_READONLY``: it says what is wrong, and shows no one's data."""
    if isinstance(cause := error.__cause__, sqlite3.Error):
        return getattr(cause, "sqlite_errorname", "SQLITE_ERROR")
    return f"error {_code(error)}"


def _is_faulty_statement(error: Error) -> bool:
    if isinstance(cause := error.__cause__, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR
    return _code(error) in _FAULTY_STATEMENTS


def _code(error: Error) -> object:
    return error.args[0] if error.args else None
