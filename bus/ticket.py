"""The signed socket ticket: the web signs it, the bridge verifies it, nothing else is shared.

A ticket is a JWT (RFC 7519), HS256, signed with the first key of the key set; every key of the
set is accepted, so a key is rotated by putting a new one in front and dropping the old one later.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import jwt
import msgspec

from bus.errors import InvalidTicket, SettingError
from bus.runtime.settings import Environment

LIFETIME = 30
MAX_ROOMS = 1_000
_ALGORITHM = "HS256"
_AUDIENCE = "chatbus-bridge"
_MINIMUM_SECRET = 32


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Which user may connect, and to which rooms, when the ticket was signed.

    ``session`` names the login session, so that a log-out can end its sockets; ``issued_at`` and
    ``expires_at`` are in seconds since 1970.
    """

    id: str
    user_id: int
    user_name: str
    session: str
    room_ids: tuple[uuid.UUID, ...]
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class KeySet:
    """Secrets by key id, the signing one first."""

    keys: tuple[tuple[str, str], ...]

    @classmethod
    def from_environment(cls, environment: Environment) -> KeySet:
        """Reads TICKET_KEYS: ``id:secret[,id:secret…]``, a secret of 32 characters or more."""
        keys: list[tuple[str, str]] = []
        for word in environment.words("TICKET_KEYS"):
            key_id, _, secret = word.partition(":")
            if not key_id or len(secret) < _MINIMUM_SECRET:
                raise SettingError(
                    "TICKET_KEYS",
                    f"accepted is id:secret[,id:secret…], a secret of {_MINIMUM_SECRET} "
                    "characters or more",
                )
            if key_id in dict(keys):
                raise SettingError("TICKET_KEYS", f"has two keys of the id {key_id[:40]!r}")
            keys.append((key_id, secret))
        if not keys:
            raise SettingError("TICKET_KEYS", "is not set")
        return cls(tuple(keys))

    def sign(
        self, *, user_id: int, user_name: str, session: str, room_ids: Iterable[uuid.UUID]
    ) -> str:
        """A ticket that is valid for LIFETIME seconds from now."""
        key_id, secret = self.keys[0]
        now = time.time()
        claims = {
            "aud": _AUDIENCE,
            "jti": uuid.uuid4().hex,
            "sub": str(user_id),
            "name": user_name,
            "sid": session,
            "rooms": [room_id.hex for room_id in room_ids],
            "iat": now,
            "exp": now + LIFETIME,
        }
        return jwt.encode(claims, secret, _ALGORITHM, headers={"kid": key_id})

    def verify(self, token: str) -> Ticket:
        """The ticket in ``token``. Raises InvalidTicket. The caller checks that it is used once."""
        try:
            secret = dict(self.keys)[_key_id(token.partition(".")[0])]
            claims = jwt.decode(
                token,
                secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                # The signer's clock may be a little ahead.
                options={"require": ["iat", "exp", "jti", "sub", "sid"], "verify_iat": False},
            )
            return Ticket(
                id=claims["jti"],
                user_id=int(claims["sub"]),
                user_name=claims["name"],
                session=claims["sid"],
                room_ids=tuple(uuid.UUID(hex=room) for room in claims["rooms"]),
                issued_at=float(claims["iat"]),
                expires_at=float(claims["exp"]),
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InvalidTicket(f"ticket refused: {error}") from error


@lru_cache(maxsize=8)
def _key_id(header: str) -> str:
    """The key id in a JWT's header, which all tickets of one key share.

    PyJWT would parse the whole token for it, and again to verify it. Raises what ``jwt`` raises,
    or KeyError.
    """
    key_id: str = jwt.get_unverified_header(f"{header}.e30.")["kid"]
    return key_id
