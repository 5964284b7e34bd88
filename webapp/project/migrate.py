"""``chatbus migrate``: brings the database's tables to this version."""

from __future__ import annotations

import argparse

from bus.errors import PermanentError, RetryableError
from bus.runtime.settings import Environment
from webapp.project import setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Applies the missing migrations and prints their names.

    Raises RetryableError when the database does not answer, and PermanentError, before it changes
    anything, when the database cannot hold every text.
    """
    setup()
    from django.core.management import call_command
    from django.db import OperationalError

    from webapp.project.database import lift_bounds

    try:
        lift_bounds()
        _check_encoding()
        missing = _missing()
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    except OperationalError as error:
        raise RetryableError(f"the database: {error}") from error
    if not arguments.quiet:
        print("\n".join(f"applied {name}" for name in missing) or "the database is up to date")
    return 0


def _missing() -> list[str]:
    """Names like ``rooms.0001_initial``, in the order in which they are applied."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _check_encoding() -> None:
    from webapp.project import database

    problems = database.encoding_problems()
    if problems:
        raise PermanentError(
            f"the database cannot hold every text: {'; '.join(problems)}. Stop chatbus, make a "
            f"backup, and convert it by these statements:\n{database.conversion()}"
        )
