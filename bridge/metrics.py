"""The metrics of bridge and gateway, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from bus.runtime.metrics import LATENCY_BUCKETS

CONNECTIONS = Gauge("chatbus_bridge_connections", "Connections, with or without a handshake")
SOCKETS = Gauge("chatbus_bridge_sockets", "Open sockets of browsers, with or without a ticket")
UNREAD = Gauge("chatbus_bridge_unread_bytes", "Bytes buffered for sockets more than 64 KiB behind")
TURNED_AWAY = Counter(
    "chatbus_bridge_turned_away",
    "Connections refused: too many sockets, too many from their address, or draining",
    ["limit"],
)
CLOSINGS = Counter(
    "chatbus_bridge_closings",
    "Closed sockets by the code that the bridge sent; browser: it closed first; "
    "none: the connection was lost",
    ["code"],
)
RECOVERIES = Counter(
    "chatbus_bridge_recoveries",
    "Subscriptions with a position: whole, or reset because the log does not reach back",
    ["outcome"],
)
ROOMS = Gauge("chatbus_bridge_rooms", "Rooms with a socket on this bridge")
EVENTS = Counter("chatbus_bridge_events", "Events received on the rooms' channels")
FRAMES = Counter("chatbus_bridge_frames", "Event frames written to sockets")
LAG_SECONDS = Histogram(
    "chatbus_bridge_lag_seconds",
    "Seconds from logging an event to writing it to the sockets; the oldest event of each write",
    buckets=LATENCY_BUCKETS,
)

HELD = Gauge("chatbus_gateway_held_requests", "Requests held now")
ANSWERS = Counter(
    "chatbus_gateway_answers",
    "Answers to browsers by class of status, without health checks",
    ["status"],
)
RPC_SECONDS = Histogram(
    "chatbus_gateway_rpc_seconds",
    "Seconds from publishing a request to receiving its answer",
    buckets=LATENCY_BUCKETS,
)
