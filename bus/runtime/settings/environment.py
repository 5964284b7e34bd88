"""Typed access to the environment variables of a process; an error names the variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bus.errors import SettingError
from bus.runtime.settings import hosts
from bus.runtime.settings.urls import RULES, UrlError, check_url, with_authorities

# 32 hexadecimal digits are 128 bits. Django only warns below 50 characters.
MIN_SECRET = 32
MIN_DIFFERENT = 5


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
            raise SettingError(name, f"{text!r} is not a number; {accepted}") from None
        if not minimum <= value <= maximum:
            raise SettingError(name, f"{value} is out of range; {accepted}")
        return value

    def seconds(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        text = self.text(name, str(default))
        accepted = f"accepted are seconds from {minimum:g} to {maximum:g}"
        try:
            value = float(text)
        except ValueError:
            raise SettingError(name, f"{text!r} is not a number; {accepted}") from None
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

    def url(self, name: str) -> str:
        """The URL of a server, checked by the rules for ``name`` (see ``urls``).

        Where it asks for TLS, TLS_CA_FILE is added to its options.
        """
        value = self.text(name)
        try:
            check_url(value, RULES[name])
        except UrlError as error:
            raise SettingError(name, str(error)) from None
        return with_authorities(value, self.ca_file())

    def optional_url(self, name: str) -> str | None:
        """Like ``url``; None when the variable is absent or empty."""
        return self.url(name) if self.values.get(name, "").strip() else None

    def ca_file(self) -> str | None:
        """TLS_CA_FILE: the certificates of the authorities that sign the servers' certificates."""
        given = self.text("TLS_CA_FILE", "")
        if not given:
            return None
        import ssl

        path = os.path.abspath(given)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            problem = f"{path!r} cannot be used ({error.strerror or error})"
            accepted = "accepted is a file of certificates in PEM"
            raise SettingError("TLS_CA_FILE", f"{problem}; {accepted}") from None
        return path

    def broker_url(self) -> str:
        return self.url("BROKER_URL")

    def broker_api_url(self) -> str | None:
        """Where RabbitMQ's management API listens, if not at its usual port."""
        return self.optional_url("BROKER_API_URL")

    def redis_url(self) -> str:
        return self.url("REDIS_URL")

    def mongo_url(self) -> str:
        return self.url("MONGO_URL")

    def bridge_url(self) -> str:
        """BRIDGE_URL: where browsers find the bridge; ``{host}`` is the host of their request."""
        value = self.text("BRIDGE_URL", "ws://{host}:8001/")
        accepted = "a URL such as wss://chat.example.org/ws or ws://{host}:8001/"
        return _canonical("BRIDGE_URL", value, hosts.bridge_address, accepted)

    def origins(self) -> tuple[str, ...]:
        """ALLOWED_ORIGINS, as browsers send them."""
        accepted = "an origin such as https://chat.example.org or http://localhost:8000"
        return self._each("ALLOWED_ORIGINS", hosts.origin, accepted)

    def allowed_hosts(self) -> tuple[str, ...]:
        """ALLOWED_HOSTS, as browsers send them."""
        accepted = "a host name such as chat.example.org, 127.0.0.1 or [::1]; .example.org; *"
        default = "127.0.0.1,localhost,[::1]"
        return self._each("ALLOWED_HOSTS", hosts.allowed_host, accepted, default)

    def is_for_this_machine(self) -> bool:
        """Whether only people of this machine can reach any listener, as far as this process knows.

        A listener that is not set may be anywhere: of the gateway, a worker has no setting. A name
        that is not loopback's means a proxy in front.
        """
        listeners = [self.text(f"{name}_HOST", "") for name in ("WEB", "GATEWAY", "BRIDGE")]
        return all(map(hosts.is_loopback, (*listeners, *self.allowed_hosts())))

    def proxies(self, name: str, *, networks: bool) -> tuple[str, ...]:
        """IP addresses; with ``networks`` whole networks too."""
        if networks:
            return self._each(name, hosts.ip_network, "an IP address, or a network 10.0.0.0/8")
        return self._each(name, hosts.ip_address, "an IP address")

    def secret(self, name: str) -> str:
        """A key for signing, long and varied enough not to be guessed."""
        return _strong(name, self.text(name))

    def secrets(self, name: str) -> tuple[str, ...]:
        """Keys as ``secret`` accepts them, separated by commas."""
        return tuple(_strong(name, word) for word in self.words(name))

    def _each(
        self, name: str, canonical: Callable[[str], str], accepted: str, default: str = ""
    ) -> tuple[str, ...]:
        """The words of a list, each once, in the form in which they are compared."""
        words = self.words(name, default)
        return tuple(dict.fromkeys(_canonical(name, word, canonical, accepted) for word in words))


def _strong(name: str, value: str) -> str:
    is_default = value.startswith("django-insecure-")
    if len(value) < MIN_SECRET or len(set(value)) < MIN_DIFFERENT or is_default:
        raise SettingError(
            name,
            f"can be guessed; accepted are {MIN_SECRET} random characters or more, "
            "as `openssl rand -base64 48` prints them",
        )
    return value


def _canonical(name: str, value: str, canonical: Callable[[str], str], accepted: str) -> str:
    try:
        return canonical(value)
    except ValueError as error:
        # A URL of a server, in the wrong variable, has a password.
        shown = re.sub(r"(?<=//).*:.*(?=@)", "…", value)
        raise SettingError(name, f"{shown!r} {error}; accepted is {accepted}") from None
