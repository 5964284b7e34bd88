"""The web tier's publisher and its topology guard, one of each per process.

The web tier declares no queues: it would re-create a deleted queue empty, and the loss of its
messages would go unnoticed. `chatbus topology apply` and the consumers declare them.
"""

from __future__ import annotations

from django.conf import settings

from bus.publishing import Publisher, TopologyGuard, TopologyInspector
from bus.topology import ARCHIVE, EVENT_QUEUES
from bus.transport import has_streams

# They connect at first use, so each worker process gets connections of its own.
guard = TopologyGuard(settings.BROKER_URL, EVENT_QUEUES, api_url=settings.BROKER_API_URL)
publisher = Publisher(settings.BROKER_URL, guard=guard)

# The archive that replay reads. Nothing else depends on it, and only RabbitMQ has streams.
archive = (
    TopologyInspector(settings.BROKER_URL, (ARCHIVE,), guard.api)
    if settings.ARCHIVE and has_streams(settings.BROKER_URL)
    else None
)
