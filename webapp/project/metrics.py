"""The web tier's Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from bus.runtime.metrics import LATENCY_BUCKETS

HTTP_REQUESTS = Counter(
    "chatbus_http_requests", "Requests answered, by class of status", ["method", "status"]
)
LIMITED_REQUESTS = Counter(
    "chatbus_limited_requests", "Requests answered 429 by a limit", ["limit", "scope"]
)
HTTP_SECONDS = Histogram(
    "chatbus_http_seconds", "Time for answering a request", ["method"], buckets=LATENCY_BUCKETS
)
