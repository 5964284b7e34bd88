"""Django's e-mail backend of the web tier: keeps mails for ``outbox_relay`` to send.

A mail is written in the caller's transaction: it goes out if and only if that is committed, and
no request waits for a mail server.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.core.mail import EmailMessage, make_msgid
from django.core.mail.backends.base import BaseEmailBackend

from webapp.mail.models import WaitingMail


class Queue(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Stores each message for each of its recipients, as plain text.

        Raises BadHeaderError for a line break in a header.
        """
        for message in email_messages:
            message.message()
            WaitingMail.objects.bulk_create(
                WaitingMail(
                    recipient=recipient,
                    subject=message.subject,
                    body=message.body,
                    message_id=make_msgid(domain="chatbus"),
                )
                for recipient in message.recipients()
            )
        return len(email_messages)
