"""The progress of a long command on standard error: per cent, rate and the time left.

On a terminal it is a bar. Elsewhere, as in a log file, it is a line every LINE_SECONDS.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LINE_SECONDS = 10.0


class ProgressBar:
    """How far a command has come. Thread-safe."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._id = progress.add_task(title, total=1.0, messages=0)

    def update(self, fraction: float, messages: int) -> None:
        """``fraction`` of the work is done, from 0 to 1; ``messages`` were handled so far."""
        self._progress.update(self._id, completed=fraction, messages=messages)

    @property
    def line(self) -> str:
        [task] = self._progress.tasks
        return f"{task.description}: {_state(task)}"


class _StateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_state(task))


@contextmanager
def progress_bar(
    title: str, file: IO[str] | None = None, every: float = LINE_SECONDS
) -> Iterator[ProgressBar]:
    """Shows the progress of the block on ``file``, which is standard error by default."""
    console = Console(file=file, stderr=file is None)
    columns = (TextColumn("{task.description}"), BarColumn(), _StateColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = ProgressBar(progress, title)
        if console.is_terminal:
            yield bar
        else:
            with _lines(bar, console.file, every):
                yield bar


@contextmanager
def _lines(bar: ProgressBar, file: IO[str], every: float) -> Iterator[None]:
    ended = threading.Event()

    def print_lines() -> None:
        while not ended.wait(every):
            print(bar.line, file=file, flush=True)

    thread = threading.Thread(target=print_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _state(task: Task) -> str:
    """The time left is estimated from the speed of the last 30 seconds."""
    elapsed = task.elapsed or 0.0
    messages = int(task.fields["messages"])
    rate = messages / elapsed if elapsed else 0.0
    return f"{task.percentage:3.0f} %, {messages:,} messages, {rate:,.0f}/s, {_time(task)}"


def _time(task: Task) -> str:
    if task.finished:
        return f"took {_seconds(task.finished_time)}"
    if task.time_remaining is None:
        return f"{_seconds(task.elapsed)} so far"
    return f"about {_seconds(task.time_remaining)} left"


def _seconds(seconds: float | None) -> timedelta:
    return timedelta(seconds=round(seconds or 0.0))
