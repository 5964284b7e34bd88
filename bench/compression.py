"""What compression saves of real messages, and what it costs: once an event, and once a socket."""

from __future__ import annotations

import argparse
import gzip
import json
import time
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from bridge.client.compression import deflated
from bridge.protocol import Encoded, encode_event, encode_subscribed
from bus import events
from bus.events import MessagePosted, Person, PostedData
from bus.rooms.log_reader import LATEST_EVENTS
from bus.rooms.model import Entry, Position

EVENTS = 5_000
SOCKETS = 100_000
ROOM = uuid.uuid4()


def run(arguments: argparse.Namespace) -> None:
    if not arguments.file:
        print("skipped: give it real messages by --file FILE")
        return
    entries = _entries(arguments.file)
    single = [encode_event(ROOM, Position("e" * 16, e.offset), e.event) for e in entries]
    latest = [
        encode_subscribed(
            ROOM, Position("e" * 16, end), entries[end - LATEST_EVENTS : end], recovered=False
        )
        for end in range(LATEST_EVENTS, EVENTS, LATEST_EVENTS)
    ]
    print(f"{'':<28}{'bytes':>8}" + "".join(f"{bits:>7} bits{'µs':>7}" for bits in (9, 12, 15)))
    for name, frames in ((f"{EVENTS:,} events, each", single), ("a room's latest events", latest)):
        columns = [_compress(frames, bits) for bits in (9, 12, 15)]
        print(
            f"{name:<28}{_mean(frames):>8,.0f}"
            + "".join(f"{size:>12,.0f}{micros:>7.1f}" for size, micros in columns)
        )
    again = _micros(lambda: [deflated(single[0], 12) for _ in range(SOCKETS)]) / SOCKETS
    print(f"for each further socket {again:.2f} µs")


def _compress(frames: list[Encoded], bits: int) -> tuple[float, float]:
    """Bytes and microseconds a frame."""
    smaller: list[Encoded] = []
    micros = _micros(lambda: smaller.extend(deflated(frame, bits) for frame in frames))
    return _mean(smaller), micros / len(frames)


def _mean(frames: list[Encoded]) -> float:
    return sum(map(len, frames)) / len(frames)


def _micros(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def _entries(file: Path) -> list[Entry]:
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as lines:
        raw = [json.loads(line) for line in islice(lines, EVENTS)]
    return [Entry(n, events.encode(_posted(each))) for n, each in enumerate(raw, start=1)]


def _posted(line: dict[str, str]) -> MessagePosted:
    actor = Person(len(line["user"]), line["user"])
    return events.make(MessagePosted, room_id=ROOM, actor=actor, data=PostedData(line["body"]))
