"""The arguments of `chatbus import`; Django is set up before anything of it is imported."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bus.errors import RetryableError
from bus.runtime.settings import Environment
from webapp.project import setup

EXIT_MALFORMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Publishes chat messages from a file of lines {"room","at","user","body"} with their '
        "original times, and waits until the history has them. Run it again to continue, or when "
        "the file has grown: it leaves out what the history has."
    )
    parser.epilog = (
        f"Exit status: 0 everything is stored, {EXIT_MALFORMED} everything but some malformed "
        "lines, 1 the history lacks messages, or a server is away."
    )
    parser.add_argument("file", type=_file, help="FILE.jsonl or FILE.jsonl.gz")
    parser.add_argument(
        "--member",
        metavar="EMAIL",
        action="append",
        default=[],
        help="an account that becomes a member of every room; may be repeated",
    )
    parser.add_argument(
        "--owner",
        metavar="EMAIL",
        help="the account that owns every room that has no owner (default: the first --member)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Imports the file; the exit status. Raises BusError when a server stays away."""
    setup()
    from django.db import DatabaseError

    from webapp.importing.importer import import_file
    from webapp.importing.people import People, account

    try:
        owner = [account("--owner", arguments.owner)] if arguments.owner else []
        members = [account("--member", email) for email in arguments.member]
        counts = import_file(arguments.file, People([*owner, *members]))
    except DatabaseError as error:
        raise RetryableError(f"the database: {error}") from error
    return EXIT_MALFORMED if counts.malformed else 0


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text} may not be read")
    return path
