"""Adds entries to the audit log: rows of the database, and records of the process's log."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from functools import partial

from allauth.core import context
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from webapp.accounts.models import User
from webapp.accounts.sessions import session_name
from webapp.audit.models import MAX_DETAIL, Action, AuditEntry
from webapp.project.client_address import client_address

logger = logging.getLogger(__name__)


def record(
    action: Action,
    *,
    actor: User | None = None,
    user_id: int | None = None,
    room_id: uuid.UUID | None = None,
    detail: str = "",
) -> None:
    """Adds an entry in the caller's transaction, and a log record after its commit.

    ``actor`` defaults to the user of the request that is being answered, ``user_id`` to the
    actor. Never give it a secret or a message's text. Raises Django's database errors.
    """
    request: HttpRequest | None = context.request
    actor_id = actor.id if actor else _user_id(request)
    entry = AuditEntry.objects.create(
        action=action,
        actor_id=actor_id,
        user_id=user_id or actor_id,
        room_id=room_id,
        address=client_address(request) if request else "",
        session=_session(request),
        detail=detail[:MAX_DETAIL],
    )
    transaction.on_commit(partial(_log, entry))


def delete_expired(most: int) -> int:
    """Deletes up to ``most`` entries that are older than AUDIT_DAYS; returns how many it found."""
    before = timezone.now() - timedelta(days=settings.AUDIT_DAYS)
    return AuditEntry.objects.expire(before, most)


def _user_id(request: HttpRequest | None) -> int | None:
    return request.user.id if request and request.user.is_authenticated else None


def _session(request: HttpRequest | None) -> str:
    key = request.session.session_key if request else None
    return session_name(key) if key else ""


def _log(entry: AuditEntry) -> None:
    facts = {
        "action": str(entry.action),
        "actor_id": entry.actor_id,
        "user_id": entry.user_id,
        "address": entry.address,
        "session": entry.session,
        "detail": entry.detail,
    }
    given = {name: value for name, value in facts.items() if value}
    text = " ".join(f"{name}={value}" for name, value in given.items())
    logger.info("audit: %s", text, extra={"audit": given, "room_id": entry.room_id})
