"""The errors of a Redis Cluster, in words: its nodes answer where a key is, and no client here
follows them."""

from __future__ import annotations

from redis.exceptions import AskError, ClusterCrossSlotError, ClusterDownError, RedisError

CLUSTER_ERRORS = (AskError, ClusterCrossSlotError, ClusterDownError)


def cluster_problem(setting: str, error: RedisError) -> str:
    """What is wrong with the URL in ``setting``, after one of CLUSTER_ERRORS."""
    return (
        "this is a node of a Redis Cluster, which is not supported; set "
        f"{setting} to a single server, or to a proxy that follows a primary ({error})"
    )
