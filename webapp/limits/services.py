"""Refuses what is too much for a person, a room or an IP address."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping

from allauth.core import context
from django.conf import settings

from bus.http.clients import network_of
from webapp.accounts.models import User
from webapp.limits.buckets import Taking, open_buckets
from webapp.limits.rates import Rate
from webapp.project.client_address import client_address
from webapp.project.errors import TooMany
from webapp.project.metrics import LIMITED_REQUESTS

buckets = open_buckets(settings.REDIS_URL)

_WHOM = {"person": "you", "room": "all in this room", "address": "all at your IP address"}


def spend(costs: Mapping[str, int], *, user: User, room_id: uuid.UUID | None = None) -> None:
    """Takes ``costs`` (by name in ``rates.LIMITS``), all or nothing, for the present request.

    It asks Redis once, and not at all without a rate. Raises TooMany, which says when to try again.
    """
    owners = {"person": str(user.id), "room": str(room_id), "address": _network()}
    takings = list(_takings(costs, owners))
    shortage = buckets.take(takings) if takings else None
    if shortage:
        name, scope, *_ = shortage.taking.bucket.split(":")
        LIMITED_REQUESTS.labels(name, scope).inc()
        seconds = max(1, math.ceil(shortage.seconds))
        raise TooMany(
            f"Too many {name} by {_WHOM[scope]} in a short time. Try again in {seconds} s.",
            retry_after=seconds,
        )


def _takings(costs: Mapping[str, int], owners: Mapping[str, str]) -> Iterator[Taking]:
    """Whoever comes without an IP address, through a Unix socket, is not limited by it."""
    for name, cost in costs.items():
        for rate in settings.LIMITS[name]:
            if owner := owners[rate.scope]:
                yield Taking(_bucket(name, rate, owner), cost, rate.count, rate.seconds)


def _bucket(name: str, rate: Rate, owner: str) -> str:
    return f"{name}:{rate.scope}:{rate.seconds}:{owner}"


def _network() -> str:
    """What the client of the request has, and the other clients have not; empty without one."""
    request = context.request
    return network_of(client_address(request)) if request else ""
