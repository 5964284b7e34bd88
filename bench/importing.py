"""`chatbus import` of a whole file: accepted, drained, and what each process used for it."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.machine import processor_seconds, resident_megabytes
from bench.stacks import RealStack, real_stack
from bus import topology
from tests.support.wait import wait_until

MESSAGES = 196_123
ROOMS = 153


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="chatbus-bench-") as folder, real_stack() as real:
        file = arguments.file or _invent(Path(folder) / "messages.jsonl")
        seconds = _import(file, real)
        drained = _drain(real)
        print(f"the command took {seconds:.1f} s; both queues drained {drained:.1f} s after it")
        print(f"{'':<20}{'CPU s':>8}{'resident MB':>14}")
        pids = real.stack.processes() | {"redis": real.redis.pid, "mariadb": real.mariadb.pid}
        pids["rabbitmq"] = real.rabbitmq.erlang_pid()
        for name, pid in pids.items():
            print(f"{name:<20}{processor_seconds(pid):>8.1f}{resident_megabytes(pid):>14.0f}")


def _import(file: Path, real: RealStack) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "deploy.cli", "import", str(file)],
        env=real.stack.settings(),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _drain(real: RealStack) -> float:
    started = time.perf_counter()
    wait_until(lambda: not _waiting(real), 600, "the queues are empty")
    return time.perf_counter() - started


def _waiting(real: RealStack) -> int:
    """How many messages lie in the event queues, or are with a consumer."""
    lines = real.rabbitmq.ctl("list_queues", "name", "messages").splitlines()
    depths = dict(line.split() for line in lines)
    return sum(int(depths[queue.name]) for queue in topology.EVENT_QUEUES)


def _invent(path: Path) -> Path:
    """A file of the usual size: so many rooms, one after the other, texts as long as real ones."""
    with path.open("w") as file:
        for line in _lines():
            file.write(json.dumps(line) + "\n")
    return path


def _lines() -> Iterator[dict[str, str]]:
    generator = random.Random(1)
    time = datetime(2004, 12, 25, tzinfo=UTC)
    for number in range(MESSAGES):
        time += timedelta(seconds=generator.randint(0, 60))
        yield {
            "room": f"room {number * ROOMS // MESSAGES}",
            "at": time.isoformat().replace("+00:00", "Z"),
            "user": f"user {generator.randint(0, 15_000)}",
            "body": "word " * max(1, int(generator.expovariate(1 / 14))),
        }
