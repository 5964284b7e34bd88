"""How a status report is shown: tables on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.inspect.report import ProcessSample, QueueReport, Report, StoreSample

QUEUE_COLUMNS = ("queue", "waiting", "in/s", "out/s", "consumers", "oldest", "dead letters", "")
SERVER_COLUMNS = ("server", "answers in", "")
PROCESS_COLUMNS = ("process", "address", "up for", "version", "")
UNKNOWN = "?"


def lines(report: Report) -> Iterator[str]:
    """One line a row, columns apart by two blanks or more."""
    for columns, rows in _tables(report):
        shown = [[cell or "" for cell in row] for row in (columns, *rows)]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for row in shown:
            yield "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        yield ""
    yield from (f"! {problem}" for problem in report.problems)
    yield _verdict(report)


def picture(report: Report) -> RenderableType:
    """The same for a terminal."""
    tables = [_table(columns, rows) for columns, rows in _tables(report)]
    problems = [Text(f"! {problem}", style="red") for problem in report.problems]
    style = "red" if report.problems else "green"
    return Group(*tables, *problems, Text(_verdict(report), style=style))


Row = tuple[str, ...]


def _tables(report: Report) -> Iterator[tuple[Row, list[Row]]]:
    yield QUEUE_COLUMNS, [_queue(queue) for queue in report.queues]
    yield SERVER_COLUMNS, [_store(store) for store in report.stores]
    yield PROCESS_COLUMNS, [_process(process, report.time) for process in report.processes]


def _table(columns: Row, rows: list[Row]) -> Table:
    table = Table(expand=False)
    for number, column in enumerate(columns):
        is_text = number == 0 or number == len(columns) - 1
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _verdict(report: Report) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(report.time))
    count = len(report.problems)
    return f"{moment}  " + (f"{count} problem{'s'[: count > 1]}" if count else "all is well")


def _queue(queue: QueueReport) -> Row:
    return (
        queue.name,
        _number(queue.waiting, missing="no such queue"),
        _rate(queue.in_rate),
        _rate(queue.out_rate),
        _number(queue.consumers),
        _age(queue.oldest_seconds),
        _number(queue.dead_letters, missing="–"),
        "paused" if queue.paused else "",
    )


def _store(store: StoreSample) -> Row:
    answer = "–" if store.milliseconds is None else f"{store.milliseconds:.0f} ms"
    return store.name.removesuffix("_URL").lower(), answer, store.problem or ""


def _process(process: ProcessSample, now: float) -> Row:
    up_for = "–" if process.started is None else _age(now - process.started)
    failing = ", ".join(f"{check}: {outcome}" for check, outcome in process.failing.items())
    well = "paused" if "paused" in process.checks.values() else "ready"
    if process.sockets is not None:
        well += f"; sockets: {process.sockets:,}, rooms: {process.rooms:,}"
    state = process.problem or failing or well
    return process.name, process.address, up_for, process.version or "–", state


def _number(number: int | None, missing: str = UNKNOWN) -> str:
    return missing if number is None else f"{number:,}"


def _rate(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{rate:,.1f}"


def _age(seconds: float | None) -> str:
    """The two largest units: 3 d 4 h, 2 min 5 s, 0.4 s."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
