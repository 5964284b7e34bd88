"""The metrics of the bus, for Prometheus: one place for all names, labels and units.

Scraped, the name of a counter ends in ``_total``. ``queue`` is the queue's name.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 10_000)

PUBLISHED = Counter("chatbus_published_messages", "Messages handed to the publisher")
CONFIRMED = Counter("chatbus_confirmed_messages", "Messages that the broker confirmed")
REFUSED = Counter("chatbus_refused_messages", "Messages that the broker refused or returned")
UNPUBLISHED = Counter(
    "chatbus_unpublished_messages",
    "Messages whose publishing ended in an error other than a refusal, or in no answer",
)
PUBLISH_SECONDS = Histogram(
    "chatbus_publish_seconds",
    "From the call to the confirm, of each call that succeeded",
    buckets=LATENCY_BUCKETS,
)
RECONNECTS = Counter(
    "chatbus_broker_reconnects", "Connections to the broker opened after one was lost", ["side"]
)

CONSUMED = Counter("chatbus_consumed_messages", "Messages that the sink accepted", ["queue"])
RETRIED = Counter("chatbus_retried_messages", "Messages given to the sink again", ["queue"])
DEAD_LETTERED = Counter(
    "chatbus_dead_lettered_messages", "Messages moved to the dead letters", ["queue", "reason"]
)
BATCH_SIZE = Histogram(
    "chatbus_batch_messages", "Messages in a batch", ["queue"], buckets=BATCH_BUCKETS
)
SINK_SECONDS = Histogram(
    "chatbus_sink_seconds", "Time the sink took for a batch", ["queue"], buckets=LATENCY_BUCKETS
)
EVENT_SECONDS = Histogram(
    "chatbus_event_seconds",
    "From an event's publishing until the sink had accepted it; of each batch its oldest",
    ["queue"],
    buckets=LATENCY_BUCKETS,
)
OLDEST_SECONDS = Gauge(
    "chatbus_oldest_unprocessed_seconds",
    "Upper bound on the time since the oldest unprocessed event was published; 0 when idle",
    ["queue"],
)
PAUSED = Gauge("chatbus_paused", "1 while this consumer is paused", ["queue"])
SUBSCRIPTIONS = Gauge(
    "chatbus_subscriptions", "Subscriptions to the queue that this process holds", ["queue"]
)

WORKER_REQUESTS = Counter(
    "chatbus_worker_requests", "Held requests that this worker ran, by class of status", ["status"]
)
WORKER_SECONDS = Histogram(
    "chatbus_worker_seconds",
    "Time the application took for a held request",
    buckets=LATENCY_BUCKETS,
)

INFO = Gauge(
    "chatbus_info", "Always 1; its label is the version", ["version"], multiprocess_mode="max"
)
