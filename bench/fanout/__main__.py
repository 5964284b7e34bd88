"""`python -m bench.fanout [PART …]`: the bridge beside its peers, one core for each server.

The sockets, Redis and whoever publishes have the other core. The bridge gets its events by
redis_publisher's script, the peers by their own way through Redis. Rounds alternate; medians are
printed. A peer that is not installed is skipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.fanout import crowd, feeder
from bench.fanout.servers import CROWD_CORE, SERVERS, pin, running
from tests.support.servers import Redis

ROUNDS = 3
SECONDS = 5.0
IDLE_SOCKETS = 10_000
GIVE_UP = 120.0


@dataclass
class Scene:
    """A server with its crowd."""

    kind: str
    redis_url: str
    server: int
    rooms: list[str]
    sockets: int
    folder: Path
    crowd: subprocess.Popen[str]
    ready: float

    def feed(self, *, rate: float | None) -> dict[str, Any]:
        spec = feeder.Spec(
            kind=self.kind,
            redis_url=self.redis_url,
            rooms=self.rooms,
            sockets=self.sockets,
            seconds=SECONDS,
            rate=rate,
            counter=str(self.folder / "counter"),
        )
        command = [sys.executable, "-m", "bench.fanout.feeder", json.dumps(vars(spec))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            pin(process.pid, CROWD_CORE)
            answer: dict[str, Any] = json.loads(process.communicate(timeout=GIVE_UP)[0])
        return answer

    def report(self) -> dict[str, Any]:
        """What has come since the last report."""
        assert self.crowd.stdin
        self.crowd.stdin.write("\n")
        self.crowd.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.crowd.stdout
        answer: dict[str, Any] = json.loads(self.crowd.stdout.readline())
        return answer


@contextmanager
def scene(kind: str, redis: Redis, *, sockets: int, rooms: int) -> Iterator[Scene]:
    names = [str(uuid.uuid4()) for _ in range(rooms)]
    with running(kind, redis.url) as (server, port), tempfile.TemporaryDirectory() as folder:
        spec = crowd.Spec(kind, port, sockets, names, f"{folder}/counter")
        command = [sys.executable, "-m", "bench.fanout.crowd", json.dumps(vars(spec))]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            pin(process.pid, CROWD_CORE)
            try:
                made = Scene(kind, redis.url, server.pid, names, sockets, Path(folder), process, 0)
                made.ready = made._answer()["ready"]
                yield made
            finally:
                process.kill()


def flooded(kind: str, redis: Redis) -> dict[str, float]:
    with scene(kind, redis, sockets=1_000, rooms=1) as it:
        done = it.feed(rate=None)
        return {
            "deliveries/s": done["delivered"] / done["seconds"],
            "events/s": done["delivered"] / done["seconds"] / it.sockets,
            "lost events": done["lost"],
        }


def steady(kind: str, redis: Redis) -> dict[str, float]:
    with scene(kind, redis, sockets=1_000, rooms=1) as it:
        return _at_rate(it, 50)


def rooms(kind: str, redis: Redis) -> dict[str, float]:
    with scene(kind, redis, sockets=10_000, rooms=1_000) as it:
        return _at_rate(it, 2_000)


def _at_rate(it: Scene, rate: float) -> dict[str, float]:
    before = machine.processor_seconds(it.server)
    done = it.feed(rate=rate)
    used = machine.processor_seconds(it.server) - before
    got = it.report()
    expected = done["sent"] * it.sockets / len(it.rooms)
    return {
        "CPU µs/delivery": used * 1e6 / got["delivered"],
        "median ms": statistics.median(got["milliseconds"]),
        "p99 ms": statistics.quantiles(got["milliseconds"], n=100)[98],
        "delivered %": 100 * got["delivered"] / expected,
    }


def idle(kind: str, redis: Redis) -> dict[str, float]:
    with running(kind, redis.url) as (server, _):
        empty = machine.resident_megabytes(server.pid)
    with scene(kind, redis, sockets=IDLE_SOCKETS, rooms=1_000) as it:
        grown = machine.resident_megabytes(it.server) - empty
        return {"KB/socket": grown * 1024 / it.sockets, "let in/s": it.sockets / it.ready}


PARTS: dict[str, tuple[str, Callable[[str, Redis], dict[str, float]]]] = {
    "flooded": ("1,000 sockets in one room, as much as comes through", flooded),
    "steady": ("1,000 sockets in one room, 50 events/s", steady),
    "rooms": ("1,000 rooms of 10 sockets, 2,000 events/s", rooms),
    "idle": ("10,000 idle sockets in 1,000 rooms", idle),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--servers", default=",".join(SERVERS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    for line in machine.describe():
        print(line)
    kinds = list(_installed(arguments.servers.split(",")))
    with Redis() as redis:
        pin(redis.pid, CROWD_CORE)
        for name in arguments.parts or PARTS:
            title, measure = PARTS[name]
            print(f"\n## {title}; medians of {arguments.rounds}")
            seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            for _ in range(arguments.rounds):
                for kind in kinds:
                    seen[kind].append(measure(kind, redis))
            _print(seen)


def _installed(kinds: Sequence[str]) -> Iterator[str]:
    for kind in kinds:
        missing = SERVERS[kind].missing()
        if missing:
            print(f"{kind} is skipped: {missing}")
        else:
            yield kind


def _print(seen: dict[str, list[dict[str, float]]]) -> None:
    columns = list(next(iter(seen.values()))[0])
    print(f"{'':<18}" + "".join(f"{column:>18}" for column in columns))
    for kind, rounds_ in seen.items():
        values = [statistics.median(each[column] for each in rounds_) for column in columns]
        print(f"{kind:<18}" + "".join(f"{_short(value):>18}" for value in values))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
