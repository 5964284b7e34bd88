"""A TLS server in the place of another one, which records what clients send it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support.certificates import Certificate
from tests.support.ports import HOST

# A client that trusts the stranger sends its greeting at once.
QUIET_SECONDS = 1.0


class Stranger:
    """Takes every connection, and keeps what arrives after a handshake that succeeded."""

    def __init__(self, certificate: Certificate) -> None:
        self._context = certificate.server_context()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.handshakes = 0
        self.attempts = 0

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            threading.Thread(target=self._listen_to, args=(connection,), daemon=True).start()

    def close(self) -> None:
        # Wakes the thread that accepts, which ``close`` alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen_to(self, connection: socket.socket) -> None:
        connection.settimeout(QUIET_SECONDS)
        with contextlib.suppress(OSError), connection:
            secure = self._context.wrap_socket(connection, server_side=True)
            self.handshakes += 1
            while data := secure.recv(4096):
                self.heard += data


@contextlib.contextmanager
def stranger(certificate: Certificate) -> Iterator[Stranger]:
    server = Stranger(certificate)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
