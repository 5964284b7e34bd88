"""Ends the sockets of a login session at log-out."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from bus.errors import StoreUnavailable
from webapp.accounts.models import User
from webapp.outbox import logouts

logger = logging.getLogger(__name__)


def session_name(request: HttpRequest) -> str:
    """An id of the login session from which its key cannot be derived."""
    return salted_hmac("chatbus.socket-ticket", str(request.session.session_key)).hexdigest()


@receiver(user_logged_out)
def end_sockets(request: HttpRequest, user: User | None, **_: Any) -> None:
    """Publishes the log-out to the bridges.

    The log-out succeeds without Redis too; outbox_relay then publishes it when Redis is back.
    """
    if user is None or settings.REDIS_URL is None:
        return
    try:
        logouts.add(user.id, session_name(request))
    except StoreUnavailable as error:
        logger.warning("user %d logged out, but sockets stay open for a while: %s", user.id, error)
