"""Reading the environment once, at start, into typed values; a bad one names its variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bus.errors import SettingError

BROKER_SCHEMES = ("amqp", "amqps", "redis", "rediss")
REDIS_SCHEMES = ("redis", "rediss", "unix")
API_SCHEMES = ("http", "https")
MONGO_SCHEMES = ("mongodb", "mongodb+srv")


@dataclass(frozen=True, slots=True)
class Environment:
    """Typed access to environment variables.

    A variable that is absent or empty takes its default; one without a default is required.
    Every method raises SettingError, which names the variable and what is accepted.
    """

    values: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, "").strip() or default
        if value is None:
            raise SettingError(name, "is not set")
        return value

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        text = self.text(name, str(default))
        accepted = f"accepted is a whole number from {minimum} to {maximum}"
        try:
            value = int(text)
        except ValueError:
            raise SettingError(name, f"{text!r} is no number; {accepted}") from None
        if not minimum <= value <= maximum:
            raise SettingError(name, f"{value} is out of range; {accepted}")
        return value

    def seconds(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        text = self.text(name, str(default))
        accepted = f"accepted are seconds from {minimum:g} to {maximum:g}"
        try:
            value = float(text)
        except ValueError:
            raise SettingError(name, f"{text!r} is no number; {accepted}") from None
        if not minimum <= value <= maximum:
            raise SettingError(name, f"{value:g} is out of range; {accepted}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name, "1" if default else "0").lower()
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("0", "false", "no", "off"):
            return False
        raise SettingError(name, f"{text!r} is neither on nor off; accepted are 1 and 0")

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        """A list separated by commas; blanks around the words are dropped."""
        text = self.values.get(name, "").strip() or default
        return tuple(word.strip() for word in text.split(",") if word.strip())

    def url(self, name: str, schemes: tuple[str, ...], default: str | None = None) -> str:
        """A URL with one of ``schemes``; several hosts may be given separated by ``;``."""
        value = self.text(name, default)
        for part in value.split(";"):
            if not part.startswith(tuple(f"{scheme}://" for scheme in schemes)):
                accepted = ", ".join(f"{scheme}://" for scheme in schemes)
                raise SettingError(name, f"does not start with one of {accepted}")
            _check_readable(name, part)
        return value

    def optional_url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        """Like ``url``; None when the variable is absent or empty."""
        return self.url(name, schemes) if self.values.get(name, "").strip() else None

    def broker_url(self) -> str:
        return self.url("BROKER_URL", BROKER_SCHEMES)

    def broker_api_url(self) -> str | None:
        """Where RabbitMQ's management API listens, if not at its usual port."""
        return self.optional_url("BROKER_API_URL", API_SCHEMES)

    def redis_url(self) -> str:
        return self.url("REDIS_URL", REDIS_SCHEMES)

    def mongo_url(self) -> str:
        return self.url("MONGO_URL", MONGO_SCHEMES)


def _check_readable(name: str, url: str) -> None:
    """Client libraries raise whatever they run into, and some quote a part of the password."""
    try:
        scheme, netloc, path = urlsplit(url)[:3]
        for host in netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise SettingError(
            name,
            "names no host and port that can be read; in a password, write characters "
            "such as / and @ as %2F and %40",
        ) from None
    if scheme in ("redis", "rediss") and not re.fullmatch(r"/?[0-9]*", path):
        raise SettingError(name, "names no database of Redis; accepted is its number")
