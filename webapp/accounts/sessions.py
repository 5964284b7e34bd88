"""Login sessions: which a user has, and how one ends, with its sockets.

django-allauth notes a session when it begins. ``note`` does so for one that is older than that,
before it can have a socket.
"""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.signals import password_changed, password_reset, password_set
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from bus.errors import StoreUnavailable
from webapp.accounts.models import User
from webapp.outbox import logouts
from webapp.project.errors import NotLoggedIn

logger = logging.getLogger(__name__)


def session_name(key: str) -> str:
    """An id of the login session with this key. Nobody can derive the key from it."""
    return salted_hmac("chatbus.socket-ticket", key).hexdigest()


def note(request: HttpRequest) -> str:
    """Notes that the request's session is in use; returns its name for a socket ticket."""
    UserSession.objects.create_from_request(request)
    return session_name(request.session.session_key)


def end_sessions(user: User, *, keep: str | None = None) -> None:
    """Ends all sessions of ``user`` with their sockets, except the one with the key ``keep``."""
    for session in UserSession.objects.filter(user=user).exclude(session_key=keep):
        end_session(session)


def end_session(session: UserSession) -> None:
    """Ends one. First the session, so that no ticket follows, then its sockets."""
    session.end()
    _end_sockets(session.user_id, session.session_key)


def _end_sockets(user_id: int, key: str) -> None:
    """Publishes the end to the bridges. Without Redis, outbox_relay does so when it is back."""
    if settings.REDIS_URL is None:
        return
    try:
        logouts.add(user_id, session_name(key))
    except StoreUnavailable as error:
        logger.warning(
            "user %d ended a session, but its sockets stay open for a while: %s", user_id, error
        )


def check_alive(request: HttpRequest) -> None:
    """Raises NotLoggedIn when the request's session or account has ended since it came."""
    key = request.session.session_key
    is_active = User.objects.filter(id=request.user.pk, is_active=True).exists()
    if not is_active or (key is not None and not request.session.exists(key)):
        raise NotLoggedIn("Log in first.")


@receiver(user_logged_out)
def log_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    """Ends the sockets of the request's session, which Django is about to end."""
    if user is None:
        return
    key = str(request.session.session_key)
    UserSession.objects.filter(session_key=key).delete()
    _end_sockets(user.id, key)


@receiver([password_changed, password_set])
def end_others(request: HttpRequest, user: User, **_: Any) -> None:
    """Whoever knew the old password is out. This session goes on, under a new key."""
    end_sessions(user, keep=request.session.session_key)


@receiver(password_reset)
def end_all(user: User, **_: Any) -> None:
    end_sessions(user)


@receiver(post_save, sender=User)
def end_if_inactive(instance: User, **_: Any) -> None:
    if not instance.is_active:
        end_sessions(instance)
