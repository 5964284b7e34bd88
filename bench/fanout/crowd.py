"""`python -m bench.fanout.crowd SPEC`: many sockets on one server, and what comes on them.

SPEC is the JSON of a Spec. Prints ``{"ready": seconds}`` once all sockets are in their rooms, and
for each line of standard input a line of what has come since the last one; ends with the input.
Deliveries are counted by the marker that each event has in it once, for a generator that parses
every frame would be slower than what it measures. How many there are in all is also written to
the counter, for the feeder.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.fanout.counter import Counter
from bench.fanout.events import MARKER
from bench.fanout.greetings import GREETINGS, Step
from tests.support.raw_socket import KEY, TEXT, frame

CHUNK = 256 * 1024
# One socket in so many has the times of its deliveries taken.
SAMPLE = 20
TIMES = re.compile(MARKER + rb"(\d+) ")
# Sockets that are let in at the same time.
AT_ONCE = 256
PING = b"\x81\x012"  # Engine.IO's, which ends a socket that does not answer


@dataclass(frozen=True)
class Spec:
    """``sockets`` sockets spread evenly over ``rooms`` on a server of ``kind`` at ``port``."""

    kind: str
    port: int
    sockets: int
    rooms: list[str]
    counter: str


class Member:
    """One socket, from connecting to receiving."""

    def __init__(self, spec: Spec, number: int) -> None:
        greeting = GREETINGS[spec.kind]
        self.socket = socket.create_connection(("127.0.0.1", spec.port))
        self.is_sampled = number % SAMPLE == 0
        self._steps: Iterator[Step] = greeting.steps(number, spec.rooms[number % len(spec.rooms)])
        self._expected = b"HTTP/1.1 101"
        self._received = b""
        self.socket.sendall(
            f"GET {greeting.path} HTTP/1.1\r\nHost: 127.0.0.1:{spec.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
            f"Origin: http://127.0.0.1\r\n\r\n".encode()
        )
        self.socket.setblocking(False)

    def goes_on(self, data: bytes) -> bool:
        """Takes ``data``, and the next steps that it allows; False when all are taken."""
        self._received += data
        while self._expected in self._received:
            self._received = self._received.partition(self._expected)[2]
            step = next(self._steps, None)
            if step is None:
                return False
            if step.send:
                self.socket.sendall(frame(TEXT, step.send))
            self._expected = step.expect
        return True


class Crowd:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._counter = Counter(spec.counter)
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        self._delivered = self._reported = 0
        self._times: list[tuple[int, int]] = []

    def gather(self) -> float:
        """Opens all sockets; how many seconds that took."""
        started = time.perf_counter()
        numbers = iter(range(self._spec.sockets))
        arriving = {Member(self._spec, n) for _, n in zip(range(AT_ONCE), numbers, strict=False)}
        for member in arriving:
            self._selector.register(member.socket, selectors.EVENT_READ, member)
        while arriving:
            for key, _ in self._selector.select():
                member = key.data
                data = member.socket.recv(CHUNK) if member else b""
                if member in arriving and not member.goes_on(data):
                    arriving.discard(member)
                    number = next(numbers, None)
                    if number is not None:
                        newcomer = Member(self._spec, number)
                        arriving.add(newcomer)
                        self._selector.register(newcomer.socket, selectors.EVENT_READ, newcomer)
                elif member and not data:
                    raise ConnectionError("the server closed a socket")
        return time.perf_counter() - started

    def listen(self) -> None:
        """Counts, and answers the lines of the input, until it ends."""
        while True:
            for key, _ in self._selector.select():
                if key.data:
                    self._receive(key.data)
                elif not sys.stdin.buffer.raw.read(1):  # type: ignore[attr-defined]
                    return
                else:
                    self._report()
            self._counter.value = self._delivered

    def _receive(self, member: Member) -> None:
        data = member.socket.recv(CHUNK)
        if not data:
            raise ConnectionError("the server closed a socket")
        self._delivered += data.count(MARKER)
        if member.is_sampled:
            now = time.monotonic_ns()
            self._times += [(now, int(sent)) for sent in TIMES.findall(data)]
        if data.endswith(PING):
            member.socket.sendall(frame(TEXT, b"3"))

    def _report(self) -> None:
        milliseconds = [(now - sent) / 1e6 for now, sent in self._times]
        delivered = self._delivered - self._reported
        self._times, self._reported = [], self._delivered
        print(json.dumps({"delivered": delivered, "milliseconds": milliseconds}), flush=True)


def main() -> None:
    crowd = Crowd(Spec(**json.loads(sys.argv[1])))
    print(json.dumps({"ready": crowd.gather()}), flush=True)
    crowd.listen()
    os._exit(0)  # thousands of sockets are closed faster by the kernel


if __name__ == "__main__":
    main()
