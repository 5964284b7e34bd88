"""``chatbus migrate``: brings the database's tables to this version."""

from __future__ import annotations

import argparse

from bus.errors import RetryableError
from bus.runtime.settings import Environment
from webapp.project import setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Applies the migrations that are missing. Raises RetryableError when the database is away."""
    setup()
    from django.core.management import call_command
    from django.db import OperationalError

    try:
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    except OperationalError as error:
        raise RetryableError(f"the database: {error}") from error
    return 0
