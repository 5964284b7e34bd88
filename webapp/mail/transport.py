"""Where mails go: EMAIL_URL as the arguments of one of Django's e-mail backends."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.mail.backends.smtp import EmailBackend
from django.utils.functional import cached_property

from bus.errors import SettingError
from bus.runtime.settings import Environment, hosts

ACCEPTED = (
    "accepted are smtps://USER:PASSWORD@HOST, smtp://HOST, smtp://USER:PASSWORD@HOST?starttls=1, "
    "file:/FOLDER and console:"
)
SMTP_PORTS = {"smtp": 25, "smtps": 465}
# For connecting, and for each answer of the server.
SECONDS = 10.0
BACKENDS = "django.core.mail.backends"


class Smtp(EmailBackend):
    """SMTP whose TLS verifies the server, also by authorities of one's own."""

    def __init__(self, *, ca_file: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._ca_file = ca_file

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)


def transport_from(environment: Environment) -> dict[str, Any] | None:
    """What ``django.core.mail.get_connection`` takes; None while mails have nowhere to go.

    MAIL_FOLDER is for trying chatbus out: mails go to a folder, and addresses need not be
    confirmed. Raises SettingError.
    """
    url = environment.text("EMAIL_URL", "")
    if not url:
        folder = environment.text("MAIL_FOLDER", "")
        return _folder(folder) if folder else None
    scheme, _, rest = url.partition(":")
    if scheme == "console" and rest in ("", "//"):
        return {"backend": f"{BACKENDS}.console.EmailBackend"}
    if scheme == "file" and (path := unquote(urlsplit(url).path)).startswith("/"):
        return _folder(path)
    if scheme in SMTP_PORTS:
        return _smtp(environment)
    raise SettingError("EMAIL_URL", ACCEPTED)


def _folder(path: str) -> dict[str, Any]:
    return {"backend": f"{BACKENDS}.filebased.EmailBackend", "file_path": path}


def _smtp(environment: Environment) -> dict[str, Any]:
    parts = urlsplit(environment.url("EMAIL_URL"))
    is_encrypted = parts.scheme == "smtps" or dict(parse_qsl(parts.query)).get("starttls") == "1"
    if (parts.username is None) != (parts.password is None) or parts.path.strip("/"):
        raise SettingError("EMAIL_URL", ACCEPTED)
    host = parts.hostname or ""
    if parts.username and not is_encrypted and not hosts.is_loopback(host):
        problem = "would send the password unencrypted"
        raise SettingError(
            "EMAIL_URL", f"{problem}; accepted are smtps:// or the option starttls=1"
        )
    return {
        "backend": f"{__name__}.{Smtp.__name__}",
        "host": host,
        "port": parts.port or SMTP_PORTS[parts.scheme],
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "use_ssl": parts.scheme == "smtps",
        "use_tls": parts.scheme == "smtp" and is_encrypted,
        "timeout": SECONDS,
        "ca_file": environment.ca_file(),
    }
