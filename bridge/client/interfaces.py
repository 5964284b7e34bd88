"""Whom a transport serves: the server it belongs to, and the conversation that is held on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from websockets.extensions import ServerExtensionFactory
from websockets.http11 import Request, Response
from websockets.typing import Origin

from bridge.client.slow_readers import SlowReaders
from bridge.limits import Limits

if TYPE_CHECKING:
    from bridge.client.transport import SocketTransport


class TransportHandler(Protocol):
    """What is said on an open transport. No method may wait; ``closed`` may not raise.
    Its ``str`` is for logs."""

    def received(self, message: str) -> None:
        """Raises SocketRefused, which ends the transport."""
        ...

    def closed(self) -> None:
        """Nothing more can be sent. Called once."""
        ...


class Host(Protocol):
    """The server whose transports these are. No method may wait or raise."""

    limits: Limits
    origins: tuple[Origin, ...]
    extensions: Sequence[ServerExtensionFactory]
    backlogs: SlowReaders

    def connected(self, transport: SocketTransport) -> bool:
        """False if the transport must be cut off at once."""
        ...

    def answer(self, transport: SocketTransport, request: Request) -> Response | None:
        """What ``request`` is answered with, instead of a handshake; None for a handshake."""
        ...

    def opened(self, transport: SocketTransport) -> TransportHandler: ...

    def gone(self, transport: SocketTransport) -> None:
        """The connection is closed. Called once for every transport that was let in."""
        ...
