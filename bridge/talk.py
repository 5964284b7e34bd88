"""Whom a wire serves: the server it belongs to, and the conversation that is held on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from websockets.extensions import ServerExtensionFactory
from websockets.http11 import Request, Response
from websockets.typing import Origin

from bridge.backlogs import Backlogs
from bridge.limits import Limits

if TYPE_CHECKING:
    from bridge.wire import Wire


class Talk(Protocol):
    """What is said on an open wire. No method may wait; ``closed`` may not raise. Its ``str`` is
    for logs."""

    def received(self, message: str) -> None:
        """Raises Refused, which ends the wire."""
        ...

    def closed(self) -> None:
        """Nothing more can be sent. Called once."""
        ...


class Host(Protocol):
    """The server whose wires these are. No method may wait or raise."""

    limits: Limits
    origins: tuple[Origin, ...]
    extensions: Sequence[ServerExtensionFactory]
    backlogs: Backlogs

    def connected(self, wire: Wire) -> bool:
        """False if the wire must be cut off at once."""
        ...

    def answer(self, wire: Wire, request: Request) -> Response | None:
        """What ``request`` is answered with, instead of a handshake; None for a handshake."""
        ...

    def opened(self, wire: Wire) -> Talk: ...

    def gone(self, wire: Wire) -> None:
        """The connection is closed. Called once for every wire that was let in."""
        ...
