"""Sends the waiting mails, in a thread of ``outbox_relay``.

A mail may come twice: when this process dies between the server's answer and the deletion.
"""

from __future__ import annotations

import logging
import smtplib
import threading
from contextlib import closing
from datetime import timedelta
from itertools import takewhile

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import Error, close_old_connections
from django.db.models import F
from django.utils import timezone

from bus.errors import RetryableError
from bus.runtime.backoff import Backoff
from webapp.mail.metrics import WAITING_MAILS
from webapp.mail.models import WaitingMail

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
BATCH = 100
# Longer than a server may take for one mail.
CLAIM = timedelta(minutes=2)
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)
# The links in a mail do not hold longer.
LIFETIME = timedelta(days=3)
# RFC 3834: so that no vacation notice answers.
HEADERS = {"Auto-Submitted": "auto-generated"}


class MailServerAway(RetryableError):
    """The mail server cannot be reached, or refuses to work for us. It may be there again later."""


def run(stop: threading.Event) -> None:
    """Sends what is due until ``stop`` is set; waits while the mail server or database is away."""
    if settings.MAIL_TRANSPORT is None:
        logger.warning(
            "EMAIL_URL is not set: mails wait for a mail server, with them confirmations of "
            "addresses and so invitations by address"
        )
    backoff = Backoff(SWEEP_SECONDS)
    delay = SWEEP_SECONDS
    while not stop.wait(delay):
        try:
            send_due(stop)
            delay = SWEEP_SECONDS
            backoff.reset()
        except (RetryableError, Error) as error:
            delay = backoff.next()
            logger.warning("mails wait, trying again in %.1f s: %s", delay, error)
        finally:
            close_old_connections()


def send_due(stop: threading.Event) -> None:
    """Sends the mails that are due, oldest first, and drops those that are too old.

    Raises MailServerAway or Django's database errors.
    """
    _drop_old()
    WAITING_MAILS.set(WaitingMail.objects.count())
    if settings.MAIL_TRANSPORT is None:
        return
    due = WaitingMail.objects.filter(due_at__lte=timezone.now()).order_by("id")[:BATCH]
    for mail in takewhile(lambda _: not stop.is_set(), list(due)):
        if _claim(mail):
            _send(mail)


def _drop_old() -> None:
    old = WaitingMail.objects.filter(created_at__lt=timezone.now() - LIFETIME)
    # SQLite locks the whole database for a deletion, also for one of nothing.
    if old.exists():
        number, _ = old.delete()
        logger.error("%d mails were dropped, which nobody took in %d days", number, LIFETIME.days)


def _claim(mail: WaitingMail) -> bool:
    """Whether it is this process that tries now."""
    seen = WaitingMail.objects.filter(id=mail.id, due_at=mail.due_at)
    return seen.update(due_at=timezone.now() + CLAIM, attempts=F("attempts") + 1) == 1


def _send(mail: WaitingMail) -> None:
    try:
        with closing(get_connection(**settings.MAIL_TRANSPORT)) as connection:
            connection.send_messages([_message(mail)])
    except smtplib.SMTPRecipientsRefused as error:
        _refused(mail, error.recipients[mail.recipient][0])
    except smtplib.SMTPDataError as error:
        _postpone(mail)
        logger.warning("%s was refused with %d and waits", mail, error.smtp_code)
    except OSError as error:  # the root of smtplib's errors, too
        _postpone(mail)
        raise MailServerAway(f"the mail server: {error}") from error
    else:
        mail.delete()


def _refused(mail: WaitingMail, code: int) -> None:
    """RFC 5321, section 4.2.1: with a 5 the server will never take it, with a 4 perhaps later."""
    if code >= 500:
        mail.delete()
        logger.warning("%s was dropped: the mail server refuses its address with %d", mail, code)
    else:
        _postpone(mail)


def _postpone(mail: WaitingMail) -> None:
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(mail.attempts, 10))
    WaitingMail.objects.filter(id=mail.id).update(due_at=timezone.now() + pause)


def _message(mail: WaitingMail) -> EmailMessage:
    headers = HEADERS | {"Message-ID": mail.message_id}
    return EmailMessage(mail.subject, mail.body, to=[mail.recipient], headers=headers)
