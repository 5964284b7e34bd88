"""What bridge and gateway count, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from bus.metrics import LATENCY_BUCKETS

SOCKETS = Gauge("chatbus_bridge_sockets", "Browsers' sockets that are open")
ROOMS = Gauge("chatbus_bridge_rooms", "Rooms that a socket of this bridge listens to")
EVENTS = Counter("chatbus_bridge_events", "Events that came on the rooms' channels")
FRAMES = Counter("chatbus_bridge_frames", "Event frames written to sockets")

HELD = Gauge("chatbus_gateway_held_requests", "Requests that are held now")
ANSWERS = Counter(
    "chatbus_gateway_answers",
    "Answers to browsers, health checks aside, by class of status",
    ["status"],
)
RPC_SECONDS = Histogram(
    "chatbus_gateway_rpc_seconds",
    "From putting a request on its queue until its answer came",
    buckets=LATENCY_BUCKETS,
)
