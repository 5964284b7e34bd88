"""The progress bar of long commands: done, rate, and the time that is left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """How many items were done, and how many a second; they are the task's field ``items``."""

    def render(self, task: Task) -> Text:
        items = int(task.fields.get("items", 0))
        rate = items / task.elapsed if task.elapsed else 0.0
        return Text(f"{items:,} messages, {rate:,.0f}/s")


def progress_bar() -> Progress:
    """A bar on standard error; without a terminal it is printed once, at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
