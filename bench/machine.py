"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("kombu", "pika", "redis", "hiredis", "pymongo", "websockets", "Django", "nx-27017")


def describe() -> Iterator[str]:
    """Lines about the machine; the last one tells how fast it is right now."""
    yield f"{os.cpu_count()} × {_processor()}, {platform.system()}, load {os.getloadavg()[0]:.1f}"
    yield f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in PACKAGES
    )
    yield f"10 million additions in Python take {_loop():.2f} s (0.5 s is usual on a desktop)"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _loop() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(10_000_000):
        total += number
    return time.perf_counter() - started


def resident_megabytes(pid: int) -> float:
    """The resident set of a process (proc(5))."""
    return _status_megabytes(pid, "VmRSS:")


def peak_megabytes(pid: int) -> float:
    """The largest that the resident set of a process ever was."""
    return _status_megabytes(pid, "VmHWM:")


def _status_megabytes(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def processor_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
