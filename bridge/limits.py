"""What one browser, or a client without a ticket, may cost: deadlines, sizes, rates, numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for each bridge; times are in seconds."""

    # From connecting to the end of the handshake.
    handshake: float = 5.0
    # From the handshake to the first ticket.
    authenticate: float = 5.0
    # From one ticket to the next.
    refresh: float = 600.0
    # Without any frame from the browser.
    silence: float = 75.0
    # For the browser's part of the closing handshake.
    close: float = 5.0
    # In which a slow reader must read ``least_read`` bytes.
    behind: float = 5.0
    # Bytes that a slow reader must read in ``behind`` seconds.
    least_read: int = 16 * 1024
    # Unsent bytes with which a slow reader is disconnected at once.
    unread: int = 1024 * 1024
    # Frames that a browser may send at once.
    frames: int = 1_200
    # Frames that it may send in each second after that.
    frames_per_second: int = 20
    # Open sockets.
    sockets: int = 20_000
    # Open sockets from one address, or one IPv6 network of 64 bits.
    sockets_per_address: int = 1_000
    # Open sockets of one user.
    sockets_per_user: int = 50
    # Connections beyond these numbers that get an HTTP error; further ones are cut off.
    turned_away: int = 500


class Allowance:
    """A token bucket (https://en.wikipedia.org/wiki/Token_bucket): ``burst`` at once, ``rate`` per
    second after that."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: int, now: float) -> None:
        self._left = float(burst)
        self._at = now

    def take(self, now: float, burst: int, rate: float) -> bool:
        """Takes a token; False if there is none."""
        self._left = min(burst, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
