"""The web tier's one way to the broker."""

from __future__ import annotations

from django.conf import settings

from bus import topology
from bus.broker import is_amqp
from bus.publisher import Publisher


def _queues() -> tuple[topology.Queue, ...]:
    """What must exist before anything is published; streams exist on RabbitMQ only."""
    with_archive = settings.ARCHIVE and is_amqp(settings.BROKER_URL)
    return (*topology.EVENT_QUEUES, *([topology.ARCHIVE] if with_archive else []))


# It connects when it is first used, in whichever process that is.
publisher = Publisher(settings.BROKER_URL, _queues())
