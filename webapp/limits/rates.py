"""The rates that the environment sets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bus.errors import SettingError
from bus.events import MAX_BODY_CHARACTERS
from bus.runtime.settings import Environment

PERIODS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
SCOPES = ("person", "room", "address")
OFF = "off"
# In UTF-8.
MAX_MESSAGE_BYTES = 4 * MAX_BODY_CHARACTERS

_RATE = re.compile(rf"([1-9]\d{{0,11}})/([{''.join(PERIODS)}])/({'|'.join(SCOPES)})")


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` in ``seconds``, for each person, room or IP address (``scope``)."""

    count: int
    seconds: int
    scope: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A setting, with its default and the smallest count that is of use."""

    setting: str
    default: str
    smallest: int = 1
    scopes: tuple[str, ...] = SCOPES


MESSAGES = "messages"
MESSAGE_BYTES = "message bytes"
ROOMS = "rooms"
TICKETS = "tickets"

LIMITS = {
    MESSAGES: Limit("LIMIT_MESSAGES", "200/m/person,1000/m/room,1000/m/address"),
    MESSAGE_BYTES: Limit(
        "LIMIT_MESSAGE_BYTES", "500000/m/person,2000000/m/room", MAX_MESSAGE_BYTES
    ),
    ROOMS: Limit("LIMIT_ROOMS", "60/h/person,300/h/address", scopes=("person", "address")),
    TICKETS: Limit("LIMIT_TICKETS", "120/m/person,1200/m/address", scopes=("person", "address")),
}


def rates_from(environment: Environment) -> dict[str, tuple[Rate, ...]]:
    """The rates of each of LIMITS. Raises SettingError.

    On a machine alone, one address is everybody's, so none is limited.
    """
    scopes = set(SCOPES)
    if environment.is_for_this_machine():
        scopes.remove("address")
    return {
        name: tuple(rate for rate in _rates(environment, limit) if rate.scope in scopes)
        for name, limit in LIMITS.items()
    }


def _rates(environment: Environment, limit: Limit) -> list[Rate]:
    words = environment.words(limit.setting, limit.default)
    return [] if words == (OFF,) else [_rate(limit, word) for word in words]


def _rate(limit: Limit, word: str) -> Rate:
    found = _RATE.fullmatch(word)
    if not found or found[3] not in limit.scopes:
        periods, scopes = "|".join(PERIODS), "|".join(limit.scopes)
        accepted = f"{limit.default}, each COUNT/{periods}/{scopes}, or {OFF}"
        raise SettingError(limit.setting, f"has {word!r}; accepted is a list such as {accepted}")
    if int(found[1]) < limit.smallest:
        reason = f"has {word!r}, with which one message may never be posted"
        raise SettingError(limit.setting, f"{reason}; accepted are {limit.smallest} and more")
    return Rate(int(found[1]), PERIODS[found[2]], found[3])
