"""An HTTP client that sends whatever it is told to, as slowly as it is told to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.wait import patience

# Addresses of the loopback network: each has a share of its own.
STRANGER = "127.0.0.7"
BYSTANDER = "127.0.0.8"


def connect(port: int, *, address: str = BYSTANDER, unread: bool = False) -> socket.socket:
    """A connection from ``address``; with ``unread`` the kernel takes as little of an answer as
    it can."""
    client = socket.socket()
    if unread:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(patience(10))
    client.bind((address, 0))
    client.connect(("127.0.0.1", port))
    return client


def ask(port: int, sent: bytes, *, address: str = BYSTANDER) -> bytes:
    """Everything that comes back on one connection until the server closes it."""
    with connect(port, address=address) as client:
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def statuses(answers: bytes) -> list[int]:
    """The statuses of the answers on one connection."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def get(path: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields, "", "")
    return "\r\n".join(lines).encode()


@contextmanager
def many(
    port: int, count: int, sent: bytes, *, address: str = STRANGER, unread: bool = False
) -> Iterator[list[socket.socket]]:
    """``count`` connections that have sent ``sent`` and stay open, as far as the server lets
    them."""
    with ExitStack() as clients:
        found = []
        for _ in range(count):
            found.append(clients.enter_context(connect(port, address=address, unread=unread)))
            if sent:
                _send(found[-1], sent)
        yield found


def _send(client: socket.socket, sent: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have been disconnected
        client.sendall(sent)


def is_open(client: socket.socket) -> bool:
    """Whether the server has neither answered nor closed the connection."""
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
        return False
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port
