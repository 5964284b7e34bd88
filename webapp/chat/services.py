"""Posts a message: checks it, gives it an id, publishes it."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from bus import events
from bus.events import MessagePosted, Person, PostedData
from bus.runtime import clock
from webapp.accounts.models import User
from webapp.chat.models import IdempotencyKey
from webapp.limits.rates import MESSAGE_BYTES, MESSAGES
from webapp.limits.services import spend
from webapp.project import idempotency
from webapp.project.broker import publisher
from webapp.project.text import check_message
from webapp.rooms.memberships import check_not_archived
from webapp.rooms.selectors import membership_of

logger = logging.getLogger(__name__)

KEY_LIFE = timedelta(days=1)


def post_message(
    user: User, room_id: uuid.UUID, body: object, key: str | None = None
) -> MessagePosted:
    """Publishes a message to a room; returns when the broker has confirmed it.

    For a day the same ``key`` (Idempotency-Key, 1 to 255 visible ASCII characters) returns the
    same event and posts it once. Raises NotFound, Forbidden, Conflict (an archived room),
    InvalidInput, TooMany or a BusError; after a retryable one, post again with the same key.
    """
    check_not_archived(membership_of(user, room_id).room)
    text = check_message(body)
    spend({MESSAGES: 1, MESSAGE_BYTES: len(text.encode())}, user=user, room_id=room_id)
    known = None if key is None else _known(user, room_id, text, key)
    event = events.make(
        MessagePosted,
        event_id=known.message_id if known else None,
        room_id=room_id,
        actor=Person(user.id, user.display_name),
        data=PostedData(text),
    )
    if known and known.confirmed:
        return event
    publisher.publish(events.to_message(event))
    logger.debug("accepted", extra={"event_id": event.id, "room_id": room_id})
    if known:
        IdempotencyKey.objects.filter(id=known.id).update(confirmed=True)
    return event


def _known(user: User, room_id: uuid.UUID, body: str, key: str) -> IdempotencyKey:
    """The row of this key, with a new message id or that of an earlier try.

    Raises InvalidInput for a malformed key, and for one that was used for another message.
    """
    key_hash = idempotency.hash_key(key)
    request_hash = idempotency.hash_request(f"{room_id} {body}")
    oldest = clock.now() - KEY_LIFE
    known, created = _find_or_create(user, key_hash, request_hash)
    if created or known.created_at < oldest:
        IdempotencyKey.objects.filter(user=user, created_at__lt=oldest).delete()
    if known.created_at < oldest:
        known, _ = _find_or_create(user, key_hash, request_hash)
    idempotency.check_same(known.request_hash, request_hash)
    return known


def _find_or_create(user: User, key_hash: str, request_hash: str) -> tuple[IdempotencyKey, bool]:
    """The row of this key, and whether this call made it."""
    return IdempotencyKey.objects.get_or_create(
        user=user,
        key_hash=key_hash,
        defaults={
            "message_id": events.new_id(),
            "request_hash": request_hash,
            "created_at": clock.now(),
        },
    )
