"""One trace from a browser's POST to every sink, by W3C Trace Context.

A ``traceparent`` is ``00-<trace id>-<parent id>-<flags>`` in lower-case hexadecimal
(https://www.w3.org/TR/trace-context-1/#traceparent-header). It arrives with an HTTP
request and travels in the header ``traceparent`` of every event; log records have its trace id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bus.message import Delivery

HEADER = "traceparent"
SAMPLED = 0x01

_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def traceparent() -> str:
    """The traceparent of the current work, or one that begins a new trace."""
    return _current.get() or child_of(None)


def trace_id() -> str | None:
    """The trace id of the current work; None outside any."""
    return trace_id_of(_current.get())


def trace_id_of(header: object) -> str | None:
    """The trace id in a ``traceparent``; None if that is invalid."""
    match = _parse(header)
    return match["trace_id"] if match else None


def child_of(header: object) -> str:
    """The traceparent of work that ``header`` led to: the same trace, a parent id of its own.

    A missing or invalid header begins a new trace, as the recommendation demands.
    """
    match = _parse(header)
    identity = match["trace_id"] if match else os.urandom(16).hex()
    flags = int(match["flags"], 16) & SAMPLED if match else 0
    return f"00-{identity}-{os.urandom(8).hex()}-{flags:02x}"


@contextmanager
def continued(header: object) -> Iterator[str]:
    """Makes the work in the block a child of ``header``; yields its traceparent."""
    token = _current.set(child_of(header))
    try:
        yield traceparent()
    finally:
        _current.reset(token)


def _parse(header: object) -> re.Match[str] | None:
    """The fields of a valid ``header``, else None.

    Version 00 has nothing after the flags; of a later version only the known beginning counts.
    """
    match = _FORM.fullmatch(header) if isinstance(header, str) else None
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    if not int(match["trace_id"], 16) or not int(match["parent_id"], 16):
        return None
    return match


def log_ids(delivery: Delivery) -> dict[str, object]:
    """The ids of ``delivery`` for a log record (``extra=``)."""
    headers = delivery.headers
    return {
        "event_id": delivery.message_id,
        "room_id": headers.get("room_id"),
        "trace_id": trace_id_of(headers.get(HEADER)),
    }
