"""The ``chatbus`` command. It imports only what the given word needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from bus.errors import BusError, SettingError
from bus.runtime.log_format import configure_logging
from bus.runtime.settings import Environment
from deploy.processes import load

# Word → its help and the module with its ``add_arguments(parser)`` and
# ``run(arguments, environment) -> exit code``.
WORDS = {
    "up": ("run all of chatbus on this machine", "deploy.commands.up"),
    "run": ("run one process", "deploy.commands.run"),
    "migrate": ("bring the database to this version", "webapp.project.migrate"),
    "import": ("publish a file of messages", "webapp.importing.command"),
    "replay": ("feed the archive to one consumer again", "consumers.replay"),
    "topology": ("compare the broker with the code, and make it agree", "deploy.commands.topology"),
    "deadletters": ("look at dead letters, redrive or drop them", "deploy.commands.deadletters"),
    "trace": ("say where a message is", "deploy.commands.trace"),
    "status": ("show queues, servers and processes", "deploy.commands.status"),
    "pause": ("stop a queue's consumers, and let it fill", "deploy.commands.pause"),
    "resume": ("let a paused queue's consumers go on", "deploy.commands.resume"),
    "asyncapi": ("describe the bus and the socket as AsyncAPI", "deploy.commands.asyncapi"),
}


class Parser(argparse.ArgumentParser):
    """Says in one line what was wrong.

    ``fill`` adds the arguments, not before they are needed: only then is the module imported
    that knows them.
    """

    def __init__(self, *, fill: Callable[[Parser], None] | None = None, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._fill = fill

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        fill, self._fill = self._fill, None
        if fill:
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 2 for bad input, 1 for what went wrong."""
    try:
        parsed = _parser().parse_args(arguments)
        code = _run(parsed)
        sys.stdout.flush()
        return code
    except SettingError as error:
        return _complain(error, 2)
    except BusError as error:
        return _complain(error, 1)
    except BrokenPipeError:
        # The reader has gone, as in `| head`: what is left goes nowhere, and quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    parser = Parser(prog="chatbus", description="Real-time chat on a message bus.")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    words = parser.add_subparsers(dest="word", metavar="WORD", parser_class=Parser)
    for word, (help_text, _) in WORDS.items():
        words.add_parser(
            word, help=help_text, description=f"{help_text.capitalize()}.", fill=_filler(word)
        )
    return parser


def _filler(word: str) -> Callable[[Parser], None]:
    def fill(parser: Parser) -> None:
        if word != "up":
            parser.add_argument(
                "--data",
                type=Path,
                metavar="DIR",
                help="take what the environment does not set from the `chatbus up` on DIR",
            )
        _module(word).add_arguments(parser)

    return fill


def _module(word: str) -> ModuleType:
    return load(WORDS[word][1], extra="all")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.version:
        return _show_version()
    if arguments.word is None:
        raise SettingError("WORD", f"is not given; accepted are {', '.join(WORDS)}")
    if arguments.word != "up" and arguments.data:
        _take_settings_from(arguments.data)
    environment = Environment(os.environ)
    configure_logging(getattr(arguments, "process", arguments.word), environment)
    return int(_module(arguments.word).run(arguments, environment))


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
