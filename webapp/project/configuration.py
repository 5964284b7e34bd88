"""The settings of the web tier that the environment decides, as a function of it."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any

import dj_database_url
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from bus.errors import SettingError
from bus.runtime.settings import Environment
from bus.ticket import KeySet
from webapp.mail.transport import transport_from

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
        "init_command": "SET sql_mode='STRICT_TRANS_TABLES'",
        "connect_timeout": 5,
    },
}


def settings_from(environment: Environment) -> dict[str, Any]:
    """chatbus's and Django's settings by name. Raises SettingError."""
    secure_cookies = environment.flag("SECURE_COOKIES", False)
    return {
        "BROKER_URL": environment.broker_url(),
        "BROKER_API_URL": environment.broker_api_url(),
        "MONGO_URL": environment.mongo_url(),
        # Only log-outs go there, so that their sockets end at once.
        "REDIS_URL": environment.optional_url("REDIS_URL"),
        "ARCHIVE": environment.flag("ARCHIVE", True),
        "TICKET_KEYS": KeySet.from_environment(environment),
        "BRIDGE_URL": environment.bridge_url(),
        "DEBUG": environment.flag("DEBUG", False),
        "SECRET_KEY": environment.secret("SECRET_KEY"),
        "ALLOWED_HOSTS": list(environment.allowed_hosts()),
        "CSRF_TRUSTED_ORIGINS": list(environment.origins()),
        "DATABASES": {"default": _database(environment.url("DATABASE_URL"))},
        "ADDRESSES_COUNT_AS_CONFIRMED": environment.is_for_this_machine(),
        "MAIL_TRANSPORT": transport_from(environment),
        "DEFAULT_FROM_EMAIL": _sender(environment),
        "SESSION_COOKIE_SECURE": secure_cookies,
        "CSRF_COOKIE_SECURE": secure_cookies,
    }


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
