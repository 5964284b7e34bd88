"""The web tier's one way to the broker.

It declares nothing: a queue that somebody deleted would come back empty, and what was on it
would be forgotten without a word. `chatbus topology apply` and the consumers make the queues.
"""

from __future__ import annotations

from django.conf import settings

from bus.publishing import Publisher, TopologyGuard, TopologyInspector
from bus.topology import ARCHIVE, EVENT_QUEUES
from bus.transport import has_streams

# All of them connect when they are first used, in whichever process that is.
guard = TopologyGuard(settings.BROKER_URL, EVENT_QUEUES, api_url=settings.BROKER_API_URL)
publisher = Publisher(settings.BROKER_URL, guard=guard)

# The log that replay reads. Nothing else depends on it, and streams exist on RabbitMQ only.
archive = (
    TopologyInspector(settings.BROKER_URL, (ARCHIVE,), guard.api)
    if settings.ARCHIVE and has_streams(settings.BROKER_URL)
    else None
)
