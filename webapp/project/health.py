"""The web tier's health: whether the process lives, and whether it can serve requests."""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from bus.errors import BrokerBlocked, TopologyBroken
from bus.runtime.health import PROBE_SECONDS, Probes, is_ready
from webapp.clock.shared import shared_clock
from webapp.history.store import messages
from webapp.project.broker import archive, guard, publisher
from webapp.project.database import problem as database_problem


def database() -> str | None:
    """Whether it can be read and written. Closes the connection of the check's own thread."""
    try:
        return database_problem()
    finally:
        connection.close()


def broker() -> str | None:
    """Whether the broker takes messages, asked over the publisher's own connection."""
    try:
        publisher.check(PROBE_SECONDS)
    except TopologyBroken:
        return None  # the broker answers; the check `topology` says what is missing
    except BrokerBlocked:
        return "blocked: no memory or disk left"
    return None


def topology() -> str | None:
    return guard.problem(PROBE_SECONDS)


def _history() -> None:
    messages.database.command("ping")


def _archive() -> str | None:
    return archive.problem() if archive else None


_needed = {"database": database, "broker": broker, "topology": topology}
_reported = {"history": _history, "archive": _archive, "clock": shared_clock.problem}

OPTIONAL = frozenset(_reported)
"""Reported, but not needed for readiness: people can chat without these."""

checks = Probes(_needed | _reported)
# A caller that asks only for these does not wait for the others.
_needs = Probes(_needed)


def problem() -> str | None:
    """What keeps the process from serving requests; None when nothing does."""
    found = _needs()
    lacking = (name for name, outcome in found.items() if not is_ready({name: outcome}))
    return ", ".join(f"{name}: {found[name]}" for name in lacking) or None


def live(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    """Answers 200 while it can serve requests, else 503; ``checks`` says what is wrong."""
    found = checks()
    if is_ready(found, OPTIONAL):
        return JsonResponse({"status": "ok", "checks": found})
    return JsonResponse({"status": "unavailable", "checks": found}, status=503)
