"""Whether the database can be read and written, and can hold every text that chatbus accepts."""

from __future__ import annotations

from django.db import OperationalError, connection, transaction

from webapp.accounts.models import User
from webapp.outbox.models import OutboxLogout
from webapp.project.database_errors import name_of

_STRICT_MODES = ("STRICT_TRANS_TABLES", "STRICT_ALL_TABLES")
_ENCODING = "utf8mb4"
_COLLATION = f"CHARACTER SET {_ENCODING} COLLATE utf8mb4_unicode_ci"


def problem() -> str | None:
    """What keeps the database from serving requests, in a few words; None when nothing does.

    It reads a table and writes to one, as a POST does: a Galera node that lost its majority
    answers `SELECT 1` all the same, and a read-only server answers whatever is read. What it
    writes it rolls back. Raises Django's database errors.
    """
    User.objects.exists()
    return "; ".join(encoding_problems()) or _refusal_to_write()


def lift_bounds() -> None:
    """Lets the statements of this process take the time that they need, as an ALTER TABLE may.

    Call it before the first of them. Raises Django's database errors.
    """
    for bound in ("read_timeout", "write_timeout"):
        connection.settings_dict["OPTIONS"].pop(bound, None)
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = DEFAULT")


def encoding_problems() -> list[str]:
    """Why MySQL would refuse an emoji, or store a question mark for it; empty when it does not.

    MySQL's `utf8` and `latin1` lack most characters, and outside of strict mode the server cuts
    off what does not fit. Raises Django's database errors.
    """
    if connection.vendor != "mysql":
        return []
    database, link, sql_mode = _row(
        "SELECT @@character_set_database, @@character_set_connection, @@sql_mode"
    )
    tables = ", ".join(_other_tables())
    is_strict = any(mode in str(sql_mode).split(",") for mode in _STRICT_MODES)
    wrong = {
        f"the database's character set is {database}, not {_ENCODING}": database != _ENCODING,
        f"tables with text that is not {_ENCODING}: {tables}": bool(tables),
        f"the connection's character set is {link}, not {_ENCODING}": link != _ENCODING,
        f"sql_mode has no {_STRICT_MODES[0]}": not is_strict,
    }
    return [problem for problem in wrong if wrong[problem]]


def conversion() -> str:
    """The SQL statements that turn the database and the tables of chatbus into utf8mb4."""
    [name] = _row("SELECT DATABASE()")
    altered = [f"DATABASE `{name}`", *(f"TABLE `{table}` CONVERT TO" for table in _other_tables())]
    statements = ["SET FOREIGN_KEY_CHECKS=0", *(f"ALTER {what} {_COLLATION}" for what in altered)]
    return "".join(f"  {statement};\n" for statement in statements)


def _other_tables() -> list[str]:
    """The tables of chatbus with a text column in another character set."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT table_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND character_set_name <> %s",
            [_ENCODING],
        )
        found = {name for (name,) in cursor.fetchall()}
    return sorted(found.intersection(connection.introspection.django_table_names()))


def _refusal_to_write() -> str | None:
    try:
        with transaction.atomic():
            OutboxLogout.objects.create(user_id=0, session="")
            transaction.set_rollback(True)
    except OperationalError as error:
        return f"takes no writes: {name_of(error)}"
    return None


def _row(sql: str) -> tuple[str | int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row: tuple[str | int, ...] = cursor.fetchone()
    return row
