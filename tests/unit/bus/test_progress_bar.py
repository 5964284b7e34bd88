"""The progress of long commands, on a terminal and in a log file."""

from __future__ import annotations

import io
import os
import re

import pytest

from bus.runtime.progress_bar import progress_bar
from tests.support.wait import wait_until

STATE = r"replay: +50 %, 1,000 messages, [0-9,]+/s, about 0:0\d:\d\d left"


def test_off_a_terminal_a_line_comes_again_and_again() -> None:
    file = io.StringIO()
    with progress_bar("replay", file, every=0.01) as bar:
        bar.update(0.25, 500)
        bar.update(0.5, 1_000)
        wait_until(lambda: len(re.findall(STATE, file.getvalue())) > 1, what="two lines")
    ended = file.getvalue()
    assert "\x1b" not in ended
    assert ended.count("\n") == len(ended.splitlines())


def test_a_short_command_prints_no_line() -> None:
    file = io.StringIO()
    with progress_bar("replay", file) as bar:
        bar.update(1.0, 1_000)
    assert file.getvalue() == ""


def test_no_time_is_called_left_before_there_is_an_estimate() -> None:
    file = io.StringIO()
    with progress_bar("replay", file, every=0.01):
        wait_until(file.getvalue, what="a line")
    assert re.match(r"replay: +0 %, 0 messages, 0/s, 0:00:\d\d so far\n", file.getvalue())


def test_on_a_terminal_the_bar_shows_per_cent_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    main, terminal = os.openpty()
    with os.fdopen(terminal, "w") as file, progress_bar("replay", file) as bar:
        bar.update(0.25, 500)
        bar.update(0.5, 1_000)
        shown = ""
        while not re.search(r"50 %, 1,000 messages, .*about 0:", shown):
            shown += os.read(main, 4096).decode()
    os.close(main)
