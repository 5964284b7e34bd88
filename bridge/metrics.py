"""What bridge and gateway count, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from bus.runtime.metrics import LATENCY_BUCKETS

CONNECTIONS = Gauge("chatbus_bridge_connections", "Connections, with or without a handshake")
SOCKETS = Gauge(
    "chatbus_bridge_sockets", "Browsers' sockets that are open, with a ticket or still without"
)
UNREAD = Gauge(
    "chatbus_bridge_unread_bytes", "Bytes that wait for the readers for whom more than 64 KiB wait"
)
TURNED_AWAY = Counter(
    "chatbus_bridge_turned_away",
    "Connections refused for the number of all sockets, or from their address, or while draining",
    ["limit"],
)
CLOSINGS = Counter(
    "chatbus_bridge_closings",
    "Sockets that ended, by the code that the bridge sent; browser: it said goodbye first; "
    "none: the connection was lost",
    ["code"],
)
RECOVERIES = Counter(
    "chatbus_bridge_recoveries",
    "Subscriptions with a position: whole, or reset because the log could not tell",
    ["outcome"],
)
ROOMS = Gauge("chatbus_bridge_rooms", "Rooms that a socket of this bridge listens to")
EVENTS = Counter("chatbus_bridge_events", "Events that came on the rooms' channels")
FRAMES = Counter("chatbus_bridge_frames", "Event frames written to sockets")
LAG_SECONDS = Histogram(
    "chatbus_bridge_lag_seconds",
    "From logging an event until it was written to its room's sockets; of each write its oldest",
    buckets=LATENCY_BUCKETS,
)

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
