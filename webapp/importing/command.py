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
        "original times. Run it again to continue: what is in the history is left out."
    )
    parser.epilog = f"Exit status: 0 all is in, {EXIT_MALFORMED} some lines were malformed."
    parser.add_argument("file", type=_file, help="FILE.jsonl or FILE.jsonl.gz")
    parser.add_argument(
        "--member", metavar="EMAIL", help="an account that becomes a member of every room"
    )


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Imports the file; the exit status. Raises BusError when a server stays away."""
    setup()
    from django.db import DatabaseError

    from webapp.importing.importer import import_file

    try:
        counts = import_file(arguments.file, member=arguments.member)
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
