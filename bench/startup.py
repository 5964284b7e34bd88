"""`chatbus up` on its embedded servers: from the command to the line that says it is ready."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.machine import resident_megabytes
from tests.support.stack import Stack

RUNS = 5


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="chatbus-bench-") as folder:
        first, sizes = _start(Path(folder))
        later = [_start(Path(folder))[0] for _ in range(RUNS)]
    print(f"first start, with an empty data folder: {first:.1f} s")
    print(f"later starts: median {statistics.median(later):.1f} s of {RUNS}, {_span(later)}")
    print("resident: " + ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items()))


def _start(folder: Path) -> tuple[float, dict[str, float]]:
    (folder / "log").unlink(missing_ok=True)  # it tells when the stack is ready
    stack = Stack(folder, {})
    started = time.perf_counter()
    stack.start()
    try:
        stack.wait_until_ready()
        seconds = time.perf_counter() - started
        sizes = {name: resident_megabytes(pid) for name, pid in stack.processes().items()}
    finally:
        stack.close()
    return seconds, sizes


def _span(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f} s"
