"""The metrics of the HTTP servers, web and gateway, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge(
    "chatbus_http_connections", "Connections of browsers and proxies", multiprocess_mode="livesum"
)
DISCONNECTED = Counter(
    "chatbus_http_disconnected",
    "Clients disconnected: a head or an answer past its deadline, or more connections or bytes "
    "than their address or all clients may have",
    ["reason"],
)
REFUSED = Counter(
    "chatbus_http_refused",
    "Requests that never reached the application, by the code of their error",
    ["code"],
)
