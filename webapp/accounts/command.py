"""``chatbus account``: what an operator does to somebody's account."""

from __future__ import annotations

import argparse

from bus.errors import PermanentError, RetryableError
from bus.runtime.settings import Environment
from webapp.project import setup

ACTIONS = {
    "deactivate": "end all sessions with their sockets, and let nobody log in",
    "activate": "let its owner log in again",
    "confirm": "take the address as its owner's, as if they had opened the link in a mail",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = "; ".join(f"{action}: {effect}" for action, effect in ACTIONS.items())
    parser.add_argument("action", choices=ACTIONS, help=actions)
    parser.add_argument("email", metavar="EMAIL", help="the address of the account")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Does it, whether or not it was done before. Raises BusError."""
    setup()
    from django.db import DatabaseError

    from webapp.accounts import services
    from webapp.accounts.models import User

    try:
        user = User.objects.get_by_natural_key(arguments.email)
        getattr(services, arguments.action)(user)
    except User.DoesNotExist:
        raise PermanentError(f"nobody is registered as {arguments.email}") from None
    except DatabaseError as error:
        raise RetryableError(f"the database: {error}") from error
    print(f"{user.email}: done")
    return 0
