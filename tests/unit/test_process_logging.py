"""What the processes write on standard error, run as they run."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bus.errors import SettingError
from bus.runtime.log_format import configure_logging
from bus.runtime.settings import Environment
from tests.support.wait import patience

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
START = """
import logging, os, threading, warnings
from bus.runtime import trace
from bus.runtime.log_format import configure_logging
from bus.runtime.settings import Environment
configure_logging("web", Environment(os.environ))
log = logging.getLogger("webapp.x")
"""


def written(program: str, **settings: str) -> str:
    """What a program prints on standard error, which is no terminal."""
    command = [sys.executable, "-c", START + program]
    env = {**os.environ, "LOG_LEVEL": "", "LOG_FORMAT": ""} | settings
    result = subprocess.run(
        command, env=env, capture_output=True, encoding="utf-8", timeout=patience(30), check=False
    )
    return result.stderr


def records(program: str, **settings: str) -> list[dict[str, Any]]:
    """Every line of it is a record in JSON."""
    return [json.loads(line) for line in written(program, **settings).splitlines()]


def test_a_record_says_when_what_and_where() -> None:
    (record,) = records("log.warning('%s “ü”\\nnext', 'two lines')")
    time = datetime.fromisoformat(record.pop("time"))
    assert timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=1)
    assert time.tzinfo is not None
    assert record == {
        "level": "WARNING",
        "process": "web",
        "logger": "webapp.x",
        "message": "two lines “ü”\nnext",
    }


def test_the_time_is_rfc_3339_in_utc_with_milliseconds() -> None:
    (record,) = records("log.warning('x')")
    assert len(record["time"]) == len("2026-11-21T17:00:00.123Z")
    assert record["time"].endswith("Z")


def test_ids_are_fields() -> None:
    ids = {"event_id": "e", "room_id": "r", "trace_id": "t"}
    (record,) = records(f"log.warning('x', extra={ids})")
    assert ids.items() <= record.items()


def test_the_trace_is_that_of_the_work_in_hand() -> None:
    (record,) = records(f"with trace.continued('{GIVEN}'): log.warning('x')")
    assert record["trace_id"] == TRACE_ID


def test_an_exception_comes_with_its_traceback() -> None:
    (record,) = records("try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')")
    assert record["message"] == "failed"
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ZeroDivisionError: division by zero")


def test_warnings_and_what_nobody_caught_are_records_too() -> None:
    found = records(
        "warnings.warn('old')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='t1')\n"
        "thread.start(); thread.join()\n"
        "raise RuntimeError('the end')"
    )
    assert [record["level"] for record in found] == ["WARNING", "ERROR", "CRITICAL"]
    assert "old" in found[0]["message"]
    assert "thread t1" in found[1]["message"]
    assert "the end" in found[2]["exception"]


def test_debug_is_for_our_own_records() -> None:
    program = "log.debug('ours'); logging.getLogger('pymongo.command').debug('what a user wrote')"
    assert [record["message"] for record in records(program, LOG_LEVEL="debug")] == ["ours"]
    assert records(program) == []


def test_pika_does_not_repeat_what_we_say() -> None:
    assert written("logging.getLogger('pika.adapters').error('lost')") == ""


def test_the_text_form_is_one_line_with_the_ids() -> None:
    line = written(
        "log.warning('a\\nb\\x1b[31m', extra={'event_id': 'e', 'room_id': 'r', 'trace_id': 't'})",
        LOG_FORMAT="text",
    )
    assert line.count("\n") == 1
    assert line.endswith(r"WARNING web: a\nb\x1b[31m event_id=e room_id=r trace_id=t" + "\n")


def test_ids_and_tracebacks_do_not_reach_the_terminal_either() -> None:
    """Anybody who may publish chooses a message's id."""
    text = written(
        "try: raise ValueError('\\x1b[2J')\n"
        "except ValueError: log.exception('x', extra={'event_id': 'e\\nfake\\x1b[31m'})",
        LOG_FORMAT="text",
    )
    assert r"event_id=e\nfake\x1b[31m" in text.splitlines()[0]
    assert text.endswith("ValueError: \\x1b[2J\n")


def test_the_text_form_has_tracebacks() -> None:
    text = written("try: 1 / 0\nexcept ZeroDivisionError: log.exception('x')", LOG_FORMAT="text")
    assert text.endswith("\nZeroDivisionError: division by zero\n")


def test_on_a_terminal_it_is_text() -> None:
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", START + "log.warning('hello')"]
    env = {**os.environ, "LOG_LEVEL": "", "LOG_FORMAT": ""}
    with subprocess.Popen(command, env=env, stderr=terminal):
        os.close(terminal)
        line = os.read(master, 4096).decode()
    os.close(master)
    assert line.rstrip().endswith("WARNING web: hello")


@pytest.mark.parametrize(("name", "value"), [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "LOUD")])
def test_bad_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name}: '.*'; accepted are "):
        configure_logging("web", Environment({name: value}))
