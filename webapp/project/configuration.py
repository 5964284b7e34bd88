"""The settings of the web tier that the environment decides, as a function of it."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from bus.errors import SettingError
from bus.runtime.settings import Environment, hosts
from bus.ticket import KeySet
from webapp.limits.rates import rates_from
from webapp.mail.transport import transport_from

# A year, as OWASP's ASVS 5.0 asks for (3.4.1).
HSTS_SECONDS = 31_536_000
# Of django-allauth: so many in so long for an address (ip), a user, or an e-mail address (key).
# https://docs.allauth.org/en/latest/account/rate_limits.html
ACCOUNT_LIMITS = {
    "login": "60/m/ip",
    "login_failed": "30/m/ip,5/5m/key",
    "signup": "20/m/ip",
    "reset_password": "20/m/ip,5/m/key",
    "reset_password_from_key": "20/m/ip",
    "confirm_email": "1/3m/key",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
    "reauthenticate": "10/m/user",
}
MOST_INVITATIONS = 1_000_000

_DATABASE_OPTIONS: dict[str, dict[str, Any]] = {
    # IMMEDIATE: a transaction that reads and then writes waits for its turn instead of failing.
    "sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
    "mysql": {
        "charset": "utf8mb4",
        "isolation_level": "read committed",
        # Seconds. Who waited in vain for a lock tries again (see transactions.py).
        "init_command": "SET sql_mode='STRICT_TRANS_TABLES', innodb_lock_wait_timeout=3",
        # Seconds. When the server stalls, a request tries its connection and then a new one: both
        # together stay below the 15 s that a page waits for an answer.
        "connect_timeout": 5,
        "read_timeout": 8,
        "write_timeout": 8,
    },
}


def settings_from(environment: Environment) -> dict[str, Any]:
    """chatbus's and Django's settings by name. Raises SettingError."""
    https = environment.flag("HTTPS", False)
    if https:
        _check_addresses(environment)
    if environment.text("SECURE_COOKIES", ""):
        raise SettingError("SECURE_COOKIES", "is gone; HTTPS=1 secures the cookies, and more")
    return {
        "BROKER_URL": environment.broker_url(),
        "BROKER_API_URL": environment.broker_api_url(),
        "MONGO_URL": environment.mongo_url(),
        # Log-outs go there, so that their sockets end at once, and the rooms' logs are read.
        "REDIS_URL": environment.optional_url("REDIS_URL"),
        "ARCHIVE": environment.flag("ARCHIVE", True),
        "CLOCK_SKEW": environment.seconds("CLOCK_SKEW", 2, minimum=0.01, maximum=3_600),
        "LOG_WAITERS": environment.integer("LOG_WAITERS", 2, minimum=0, maximum=64),
        "TICKET_KEYS": KeySet.from_environment(environment),
        "BRIDGE_URL": environment.bridge_url(),
        "INVITATIONS_PER_DAY": environment.integer(
            "INVITATIONS_PER_DAY", 100, minimum=1, maximum=MOST_INVITATIONS
        ),
        "INVITATIONS_PER_ADDRESS": environment.integer(
            "INVITATIONS_PER_ADDRESS", 20, minimum=1, maximum=MOST_INVITATIONS
        ),
        "LIMITS": rates_from(environment),
        "AUDIT_DAYS": environment.integer("AUDIT_DAYS", 365, minimum=1, maximum=3650),
        "DEBUG": environment.flag("DEBUG", False),
        "SECRET_KEY": environment.secret("SECRET_KEY"),
        "SECRET_KEY_FALLBACKS": list(environment.secrets("SECRET_KEY_FALLBACKS")),
        "ALLOWED_HOSTS": list(environment.allowed_hosts()),
        "CSRF_TRUSTED_ORIGINS": list(environment.origins()),
        "DATABASES": {"default": _database(environment.url("DATABASE_URL"))},
        "ADDRESSES_COUNT_AS_CONFIRMED": environment.is_for_this_machine(),
        "MAIL_TRANSPORT": transport_from(environment),
        "DEFAULT_FROM_EMAIL": _sender(environment),
        "ACCOUNT_EMAIL_VERIFICATION": _verification(environment),
        "ACCOUNT_RATE_LIMITS": _account_limits(environment),
        "ACCOUNT_DEFAULT_HTTP_PROTOCOL": "https" if https else "http",
        "TLS_CA_FILE": environment.ca_file(),
        "SOCIALACCOUNT_PROVIDERS": {"openid_connect": {"APPS": _oidc(environment)}},
        # Browsers have passkeys on http://localhost, and else by https alone.
        "MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN": environment.is_for_this_machine(),
        "CACHES": {"default": _cache(environment.optional_url("REDIS_URL"))},
        **_transport(https),
    }


def _verification(environment: Environment) -> str:
    """Without a mail server nobody could ever log in whose address must be confirmed."""
    return "mandatory" if environment.text("EMAIL_URL", "") else "optional"


def _oidc(environment: Environment) -> list[dict[str, Any]]:
    """The OpenID Connect provider, if OIDC_SERVER names one. Raises SettingError."""
    server = environment.text("OIDC_SERVER", "").removesuffix("/")
    if not server:
        return []
    parts = urlsplit(server)
    is_local = parts.scheme == "http" and hosts.is_loopback(parts.hostname or "")
    if not (parts.hostname and (parts.scheme == "https" or is_local)):
        accepted = "accepted is the https:// address of an OpenID Connect provider"
        raise SettingError("OIDC_SERVER", f"is none; {accepted}")
    return [
        {
            "provider_id": "sso",
            "name": environment.text("OIDC_NAME", "OpenID Connect"),
            "client_id": environment.text("OIDC_CLIENT_ID"),
            "secret": environment.text("OIDC_CLIENT_SECRET"),
            "settings": {"server_url": server, "oauth_pkce_enabled": True},
        }
    ]


def _account_limits(environment: Environment) -> dict[str, str]:
    """On a machine alone, one address is everybody's, so none is limited."""
    if not environment.is_for_this_machine():
        return ACCOUNT_LIMITS
    rates = {action: limits.split(",") for action, limits in ACCOUNT_LIMITS.items()}
    return {
        action: ",".join(limit for limit in limits if not limit.endswith("/ip"))
        for action, limits in rates.items()
    }


def _cache(redis_url: str | None) -> dict[str, Any]:
    if redis_url is None:
        return {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            # 300 by default, so few that a stranger could push a count out.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    options = {"serializer": "webapp.project.cache.Json", "socket_timeout": 1.0}
    return {
        "BACKEND": "webapp.project.cache.SharedCache",
        "LOCATION": redis_url,
        "KEY_PREFIX": "web",
        "OPTIONS": options | {"socket_connect_timeout": 1.0},
    }


def _transport(https: bool) -> dict[str, Any]:
    """With ``https``, browsers reach the site in no other way, and are told never to try.

    Browsers take a cookie whose name begins with ``__Host-`` from this host by https alone, so
    that no neighbour in its domain can plant one (RFC 6265bis, section 4.1.3.2).
    """
    prefix = "__Host-" if https else ""
    return {
        "SECURE_SSL_REDIRECT": https,
        "SECURE_HSTS_SECONDS": HSTS_SECONDS if https else 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": https,
        "SESSION_COOKIE_SECURE": https,
        "SESSION_COOKIE_NAME": f"{prefix}sessionid",
        "CSRF_COOKIE_SECURE": https,
        "CSRF_COOKIE_NAME": f"{prefix}csrftoken",
    }


def _check_addresses(environment: Environment) -> None:
    """Raises SettingError for an address of the site that is not one of https."""
    reason = "and HTTPS is on; accepted is"
    bridge = environment.bridge_url()
    if not bridge.startswith("wss:"):
        raise SettingError("BRIDGE_URL", f"is {bridge}, {reason} one that starts with wss://")
    for origin in environment.origins():
        if not origin.startswith("https:"):
            raise SettingError("ALLOWED_ORIGINS", f"has {origin}, {reason} https:// alone")


def _database(url: str) -> dict[str, Any]:
    try:
        database: dict[str, Any] = dict(
            dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True)
        )
    except ValueError as error:
        raise SettingError("DATABASE_URL", str(error)) from error
    options = _DATABASE_OPTIONS[database["ENGINE"].rpartition(".")[2]] | database.get("OPTIONS", {})
    if "ssl" in options:
        options["ssl_mode"] = "VERIFY_IDENTITY"
    return database | {"OPTIONS": options}


def _sender(environment: Environment) -> str:
    """EMAIL_FROM, without which no mail server would take a mail."""
    default = None if environment.text("EMAIL_URL", "").startswith("smtp") else "chatbus@localhost"
    sender = environment.text("EMAIL_FROM", default)
    try:
        validate_email(parseaddr(sender)[1])
    except ValidationError:
        accepted = "chat@example.org or Chat <chat@example.org>"
        raise SettingError(
            "EMAIL_FROM", f"is no address; accepted is one such as {accepted}"
        ) from None
    return sender
