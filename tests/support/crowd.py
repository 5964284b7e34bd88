"""Many browsers in one room, let in together and read by a single thread."""

from __future__ import annotations

import itertools
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tests.support.raw_socket import TEXT, RawSocket, frame

CHUNK = 256 * 1024
AT_ONCE = 200


class Member:
    """A socket and what has come on it since it was let in."""

    def __init__(self, raw: RawSocket, frames: Sequence[bytes]) -> None:
        self.raw = raw
        self.answer = b""
        self._frames = frames

    def begin(self, origin: str) -> None:
        assert self.raw.shake_hands(origin).startswith(b"HTTP/1.1 101 ")
        for each in self._frames:
            self.raw.send(frame(TEXT, each))
        self.raw.socket.setblocking(False)

    def is_in(self, data: bytes) -> bool:
        """Whether the answer to the subscription is complete; ``data`` comes after the rest."""
        self.answer += data
        return b'"type":"subscribed"' in self.answer and self.answer.endswith(b"}")


class Crowd:
    """``gather`` lets everybody in; ``reading`` counts ``marker`` in what comes, and takes the
    times that stand behind it (monotonic, in ns)."""

    def __init__(self, port: int, origin: str, frames: Iterable[Sequence[bytes]]) -> None:
        self.members: list[Member] = []
        self.events = 0
        self.latencies: list[float] = []
        self.lost: list[Member] = []
        self._port = port
        self._origin = origin
        # One at a time, when its socket is made: a ticket holds for 30 s.
        self._frames = iter(frames)
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()

    def gather(self) -> None:
        arriving: set[Member] = set()
        while True:
            for frames in itertools.islice(self._frames, AT_ONCE - len(arriving)):
                arriving.add(self._begin(frames))
            if not arriving:
                return
            for key, _ in self._selector.select(10):
                if key.data in arriving and key.data.is_in(key.data.raw.socket.recv(CHUNK)):
                    arriving.discard(key.data)

    def _begin(self, frames: Sequence[bytes]) -> Member:
        member = Member(RawSocket(self._port), frames)
        member.begin(self._origin)
        self._selector.register(member.raw.socket, selectors.EVENT_READ, member)
        self.members.append(member)
        return member

    @contextmanager
    def reading(self) -> Iterator[None]:
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        yield
        self._stopped.set()
        thread.join()

    def take_p99(self) -> float:
        """Of the latencies since the last call, in milliseconds."""
        latencies, self.latencies = self.latencies, []
        return statistics.quantiles(latencies, n=100)[98]

    def close(self) -> None:
        for member in self.members:
            member.raw.socket.close()

    def _read(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.1):
                data = _received(key.data.raw.socket)
                if not data:
                    self._selector.unregister(key.fileobj)
                    self.lost.append(key.data)
                    continue
                now = time.monotonic_ns()
                sent = [int(piece[: piece.index(b" ")]) for piece in data.split(MARKER)[1:]]
                self.events += len(sent)
                self.latencies += [(now - each) / 1e6 for each in sent]


MARKER = b"`sent "


def body(size: int = 0) -> str:
    """A message's text with the time of its sending; so many more characters behind it."""
    return f"{MARKER.decode()}{time.monotonic_ns()} {'x' * size}"


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(CHUNK)
    except ConnectionResetError:
        return b""
