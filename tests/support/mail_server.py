"""An SMTP server that a test can stop, let refuse, and read."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.ports import HOST, free_ports

USER, PASSWORD = "chatbus", "mail/pass@word"


class MailServer:
    """Takes mails and logs in USER. ``answer`` is what it says to an address, by default 250."""

    def __init__(self) -> None:
        self.port = free_ports(1)
        self.mails: list[Message] = []
        self.answer = "250 OK"
        self.logins: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    @contextmanager
    def running(
        self, *, tls: ssl.SSLContext | None = None, starttls: bool = False
    ) -> Iterator[None]:
        options: dict[str, Any] = {"tls_context": tls} if starttls else {"ssl_context": tls}
        server = Controller(
            self,
            hostname=HOST,
            port=self.port,
            authenticator=self._authenticate,
            auth_require_tls=False,
            **options,
        )
        server.start()
        try:
            yield
        finally:
            server.stop()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        self.logins.append(given[0])
        return AuthResult(success=given == (USER, PASSWORD))
