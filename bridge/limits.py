"""What a browser, or a stranger, may cost: deadlines, sizes, rates and numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds until the handshake, until the first ticket, until a fresh one, without any frame,
    and for taking part in the closing; the seconds in which a reader that is behind must take
    ``least_read`` bytes, and the bytes that may wait for it; frames that may come at once, and
    after that per second; open sockets in all, from one address, and of one user; connections
    beyond these that are told so, the rest are cut off."""

    handshake: float = 5.0
    authenticate: float = 5.0
    refresh: float = 600.0
    silence: float = 75.0
    close: float = 5.0
    behind: float = 5.0
    least_read: int = 16 * 1024
    unread: int = 1024 * 1024
    frames: int = 1_200
    frames_per_second: int = 20
    sockets: int = 20_000
    sockets_per_address: int = 1_000
    sockets_per_user: int = 50
    turned_away: int = 500


class Allowance:
    """A token bucket (https://en.wikipedia.org/wiki/Token_bucket): ``burst`` at once, ``rate`` per
    second after that."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: int, now: float) -> None:
        self._left = float(burst)
        self._at = now

    def take(self, now: float, burst: int, rate: float) -> bool:
        """Uses up one; False if there is none."""
        self._left = min(burst, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
