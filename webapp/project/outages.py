"""Which errors mean that a server behind the web tier is away."""

from __future__ import annotations

import logging

from django.db import connection
from django.http import HttpRequest

from bus.errors import RetryableError, StoreUnavailable
from webapp.project.database_errors import is_outage
from webapp.project.errors import Unavailable

logger = logging.getLogger(__name__)


def outage(request: HttpRequest, error: BaseException | None) -> Unavailable | None:
    """What to answer when ``error`` comes of a server that is away; None for any other error.

    Logs the reason, which the answer does not contain. Closes the connection to a database that
    has failed.
    """
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, StoreUnavailable):
        answer = Unavailable("A store that this needs is away. Try again in a moment.")
    elif isinstance(error, RetryableError):
        answer = Unavailable("The message bus cannot take this now. Try again in a moment.")
    elif error is not None and is_outage(error):
        # A proxy may lead the next one to another server, while this one stays read-only.
        connection.close()
        answer = Unavailable("The database cannot be used now. Try again in a moment.")
    else:
        return None
    # The route, not the path, which may contain a secret.
    route = request.resolver_match.route if request.resolver_match else "-"
    logger.warning("%s /%s: %s", request.method, route, error)
    return answer
