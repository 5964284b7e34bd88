"""The examples and rules of W3C Trace Context, level 1, section 3.2."""

from __future__ import annotations

import threading

import pytest

from bus import events
from bus.runtime import trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
GIVEN = f"00-{TRACE_ID}-{PARENT_ID}-01"


def test_a_child_is_of_the_same_trace_and_has_an_id_of_its_own() -> None:
    version, trace_id, parent_id, flags = trace.child_of(GIVEN).split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
    assert parent_id != PARENT_ID
    assert trace.trace_id_of(trace.child_of(GIVEN)) == TRACE_ID


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-1",
        f"00-{TRACE_ID}-{PARENT_ID}-0g",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"0-{TRACE_ID}-{PARENT_ID}-01",
        f"{GIVEN}-",
        f"{GIVEN}-later",
        f"{GIVEN}\n",
        f" {GIVEN}",
        f"{GIVEN},{GIVEN}",
        f"01-{TRACE_ID}-{PARENT_ID}-01later",
        f"cc-{TRACE_ID}-{PARENT_ID}-01.what-the-future-brings",
    ],
)
def test_an_invalid_header_begins_a_new_trace(header: object) -> None:
    assert trace.trace_id_of(header) is None
    new = trace.child_of(header)
    assert trace.trace_id_of(new) not in (None, TRACE_ID)
    assert new.endswith("-00")


@pytest.mark.parametrize("rest", ["", "-", "-what-the-future-brings"])
def test_of_a_later_version_the_known_part_counts(rest: str) -> None:
    child = trace.child_of(f"cc-{TRACE_ID}-{PARENT_ID}-01{rest}")
    assert child.startswith(f"00-{TRACE_ID}-")
    assert child.endswith("-01")


def test_flags_that_are_not_defined_are_dropped() -> None:
    assert trace.child_of(f"00-{TRACE_ID}-{PARENT_ID}-ff").endswith("-01")
    assert trace.child_of(f"00-{TRACE_ID}-{PARENT_ID}-fe").endswith("-00")


def test_the_current_trace_ends_with_its_work() -> None:
    assert trace.trace_id() is None
    with trace.continued(GIVEN) as current:
        assert trace.traceparent() == current
        assert trace.trace_id() == TRACE_ID
        with trace.continued(None):
            assert trace.trace_id() != TRACE_ID
        assert trace.traceparent() == current
    assert trace.trace_id() is None
    assert trace.traceparent() != trace.traceparent(), "outside any work each is a new one"


def test_another_thread_is_other_work() -> None:
    seen = []
    with trace.continued(GIVEN):
        thread = threading.Thread(target=lambda: seen.append(trace.trace_id()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_an_event_tells_its_trace() -> None:
    event = events.make(
        events.RoomArchived,
        room_id=events.new_id(),
        actor=events.Person(1, "alice"),
        data=events.EmptyData(),
    )
    with trace.continued(GIVEN) as current:
        assert events.to_message(event).headers["traceparent"] == current
        assert events.to_message(event, "another").headers["traceparent"] == "another"
    assert trace.trace_id_of(events.to_message(event).headers["traceparent"])
