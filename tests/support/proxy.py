"""A TCP forwarder that a test controls: it passes on, holds back, or resets."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from tests.support.ports import HOST

# Closing with this option set sends RST instead of FIN (socket(7), SO_LINGER).
RESET = struct.pack("ii", 1, 0)
CHUNK = 65_536


class Proxy:
    """Listens on ``port`` and forwards to ``target``, a port on the loopback interface.

    ``connections`` and ``held``, the bytes that it holds back, let a test prove that its fault
    took place.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.held = bytearray()
        self._passes = threading.Event()
        self._passes.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        # Wakes the thread in accept(), which closing alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self.forward()

    def forward(self) -> None:
        """Passes everything on, what was held back first."""
        self._passes.set()

    def black_hole(self) -> None:
        """Holds back every byte, both ways; connections stay open, new ones are taken."""
        self.held = bytearray()
        self._passes.clear()

    def reset(self) -> None:
        """Ends all connections with RST."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._target), 5.0)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.connections += 1
            with self._lock:
                self._sockets |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Moves bytes one way; hands on the end of the stream."""
        try:
            while chunk := source.recv(CHUNK):
                if not self._passes.is_set():
                    self.held += chunk
                    self._passes.wait()
                sink.sendall(chunk)
            # A reset, too, ends the stream here; a FIN must not come before its RST.
            if source in self._sockets:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One end is gone: neither way can go on.
            self._forget(source, sink)

    def _forget(self, *ends: socket.socket) -> None:
        with self._lock:
            self._sockets -= set(ends)
        for end in ends:
            end.close()
