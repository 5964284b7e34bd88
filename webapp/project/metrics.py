"""The web tier's Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
CLOCK_SKEW = Gauge(
    "chatbus_clock_skew_seconds",
    "This machine's clock minus the database's",
    multiprocess_mode="livemostrecent",
)
CLOCK_AHEAD = Gauge(
    "chatbus_clock_ahead_seconds",
    "Time of new ids minus the database's clock; above 0 after that was set back",
    multiprocess_mode="livemostrecent",
)
CLOCK_ERROR = Gauge(
    "chatbus_clock_error_seconds",
    "Round trip of the last reading of the database's clock: its time is no more wrong than that",
    multiprocess_mode="livemostrecent",
)
