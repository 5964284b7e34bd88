"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from pymongo.errors import PyMongoError

from bus.broker import Link
from bus.errors import BusError
from webapp.history.store import messages

logger = logging.getLogger(__name__)

PROBE_SECONDS = 3.0
# Connecting to a stalled broker takes longer than a probe may. The pool is small, so that
# probes of something stalled cannot pile up threads.
_pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="health")


def live(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    """200 when requests can be served, else 503; ``checks`` says what is wrong.

    The history is reported only: without it people can still chat.
    """
    pending = {"broker": _pool.submit(_broker), "history": _pool.submit(_history)}
    checks = {"database": _outcome(_database)}
    for name, future in pending.items():
        checks[name] = _outcome(partial(future.result, PROBE_SECONDS))
    is_ready = checks["database"] == checks["broker"] == "ok"
    body = {"status": "ok" if is_ready else "unavailable", "checks": checks}
    return JsonResponse(body, status=200 if is_ready else 503)


def _outcome(check: Callable[[], None]) -> str:
    """``ok`` or one word; the details go to the log, for anybody may ask."""
    try:
        check()
    except TimeoutError:
        return "timeout"
    except (DatabaseError, BusError, PyMongoError) as error:
        logger.warning("not ready: %s", error)
        return "unreachable"
    return "ok"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _broker() -> None:
    Link(settings.BROKER_URL).close()


def _history() -> None:
    messages.database.command("ping")
