"""What a broker's URL says before anything connects: its kind, its hosts and their time limits."""

from __future__ import annotations

# For all hosts of a URL together: when the first ones are silent, the last one is still tried
# within a publisher's deadline.
CONNECT_SECONDS = 4.0
IO_TIMEOUT = 5.0


def is_amqp(url: str) -> bool:
    """Whether ``url`` names RabbitMQ, not Redis. Only ``factory`` asks; see ``has_streams``."""
    return url.startswith(("amqp://", "amqps://"))


def has_streams(url: str) -> bool:
    """Whether the broker keeps streams, and so an archive to replay: Redis does not."""
    return is_amqp(url)


def connect_timeout(url: str) -> float:
    """Seconds for an attempt at one of the hosts of ``url``, which ``;`` separates."""
    return CONNECT_SECONDS / (url.count(";") + 1)
