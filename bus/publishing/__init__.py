"""Publishing with confirms, while the queues and bindings that it relies on are there."""

from bus.publishing.publisher import Publisher
from bus.publishing.topology_guard import TopologyGuard, TopologyInspector

__all__ = ["Publisher", "TopologyGuard", "TopologyInspector"]
