"""The ``chatbus`` command. It imports only the module of the given word."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bus.errors import BusError, SettingError
from bus.runtime.log_format import configure_logging
from bus.runtime.settings import Environment
from deploy.plain_text import show_every_character
from deploy.processes import load


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the command. ``add_arguments`` names a function of ``module`` that adds the
    word's arguments to a parser and sets ``run(arguments, environment) -> exit code`` as a
    default of it.
    """

    help: str
    module: str
    add_arguments: str = "add_arguments"


WORDS = {
    "up": Word("run all of chatbus on this machine", "deploy.commands.up"),
    "run": Word("run one process", "deploy.commands.run"),
    "migrate": Word("bring the database to this version", "webapp.project.migrate"),
    "import": Word("publish a file of messages", "webapp.importing.command"),
    "account": Word("deactivate, activate or confirm an account", "webapp.accounts.command"),
    "replay": Word("feed the archive to one consumer again", "consumers.replay"),
    "topology": Word(
        "compare the broker with the code, and make it agree", "deploy.commands.topology"
    ),
    "deadletters": Word("list, show, redrive or drop dead letters", "deploy.commands.deadletters"),
    "trace": Word("show where a message is", "deploy.commands.trace"),
    "status": Word("show queues, servers and processes", "deploy.commands.status"),
    "pause": Word("stop a queue's consumers, and let it fill", "deploy.commands.pause"),
    "resume": Word(
        "start a paused queue's consumers again", "deploy.commands.pause", "add_resume_arguments"
    ),
    "asyncapi": Word("describe the bus and the socket as AsyncAPI", "deploy.commands.asyncapi"),
}


class Parser(argparse.ArgumentParser):
    """Prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 2 for bad input, 1 for a failure."""
    show_every_character(sys.stdout, sys.stderr)
    try:
        code = _run(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
        return code
    except SettingError as error:
        return _complain(error, 2)
    except BusError as error:
        return _complain(error, 1)
    except BrokenPipeError:
        # The reader has gone, as in `| head`: drop the rest of the output without an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _run(words: Sequence[str]) -> int:
    """The first word is parsed alone: only then it is known which module to import."""
    parser = _parser()
    first = parser.parse_args(words[:1])
    if first.version:
        return _show_version()
    if first.word is None:
        parser.error(f"missing command; choose one of {', '.join(WORDS)}")
    arguments = _word_parser(first.word).parse_args(words[1:])
    if first.word != "up" and arguments.data:
        _take_settings_from(arguments.data)
    environment = Environment(os.environ)
    configure_logging(getattr(arguments, "process", first.word), environment)
    return int(arguments.run(arguments, environment))


def _parser() -> Parser:
    """Knows the words and their help, but none of their arguments."""
    parser = Parser(prog="chatbus", description="Real-time chat on a message bus.")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    words = parser.add_subparsers(dest="word", metavar="WORD", parser_class=Parser)
    for name, word in WORDS.items():
        words.add_parser(name, help=word.help, add_help=False)
    return parser


def _word_parser(name: str) -> Parser:
    word = WORDS[name]
    parser = Parser(prog=f"chatbus {name}", description=f"{word.help.capitalize()}.")
    if name != "up":
        parser.add_argument(
            "--data",
            type=Path,
            metavar="DIR",
            help="take what the environment does not set from the `chatbus up` on DIR",
        )
    getattr(load(word.module, extra="all"), word.add_arguments)(parser)
    return parser


def _show_version() -> int:
    from importlib.metadata import version

    print(f"chatbus {version('chatbus')}")
    return 0


def _take_settings_from(data: Path) -> None:
    from deploy.local.data_folder import running_settings

    for name, value in running_settings(data).items():
        if not os.environ.get(name):
            os.environ[name] = value


def _complain(error: BusError, code: int) -> int:
    print(f"chatbus: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
