"""The web tier's one way to the broker.

It declares nothing: a queue that somebody deleted would come back empty, and what was on it
would be forgotten without a word. `chatbus topology apply` and the consumers make the queues.
"""

from __future__ import annotations

from django.conf import settings

from bus.publisher import Publisher
from bus.topology import ARCHIVE, EVENT_QUEUES
from bus.topology_check import Inspector, TopologyGuard
from bus.transport.admin import is_amqp

# All of them connect when they are first used, in whichever process that is.
guard = TopologyGuard(settings.BROKER_URL, EVENT_QUEUES, api_url=settings.BROKER_API_URL)
publisher = Publisher(settings.BROKER_URL, guard=guard)

# The log that replay reads. Nothing else depends on it, and streams exist on RabbitMQ only.
archive = (
    Inspector(settings.BROKER_URL, (ARCHIVE,), guard.api)
    if settings.ARCHIVE and is_amqp(settings.BROKER_URL)
    else None
)
