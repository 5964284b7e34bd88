"""One trace from a browser's POST to every sink, told by W3C Trace Context.

A ``traceparent`` is ``00-<trace id>-<parent id>-<flags>`` in lower-case hexadecimal
(https://www.w3.org/TR/trace-context-1/#traceparent-header). It comes in with an HTTP request,
travels in the header ``traceparent`` of every event, and its trace id is on the log records.
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
    """That of the work in hand, or the beginning of a new trace."""
    return _current.get() or child_of(None)


def trace_id() -> str | None:
    """Of the work in hand; None outside any."""
    return trace_id_of(_current.get())


def trace_id_of(header: object) -> str | None:
    """The trace id in a ``traceparent``; None where that is no valid one."""
    match = _parse(header)
    return match["trace_id"] if match else None


def child_of(header: object) -> str:
    """The traceparent of work that ``header`` led to: the same trace, a parent id of its own.

    A header that is missing or invalid begins a new trace, as the recommendation wants it.
    """
    match = _parse(header)
    identity = match["trace_id"] if match else os.urandom(16).hex()
    flags = int(match["flags"], 16) & SAMPLED if match else 0
    return f"00-{identity}-{os.urandom(8).hex()}-{flags:02x}"


@contextmanager
def continued(header: object) -> Iterator[str]:
    """Work that ``header`` led to; yields its traceparent, which is the current one meanwhile."""
    token = _current.set(child_of(header))
    try:
        yield traceparent()
    finally:
        _current.reset(token)


def _parse(header: object) -> re.Match[str] | None:
    """Version 00 has nothing after the flags; of a later one the known beginning counts."""
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
