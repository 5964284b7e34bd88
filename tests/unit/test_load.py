"""The load's own eyes: whatever a fault may do to messages must come to light."""

from __future__ import annotations

import pytest

from tests.support.ledger import Ledger, Posting
from tests.support.listener import View

ROOM = "7f3c0000-0000-4000-8000-000000000001"


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for message_id, text in (("a", "one"), ("b", "two"), ("c", "three")):
        ledger.accept(message_id, Posting(ROOM, text))
    return ledger


def test_what_equals_the_ledger_has_no_differences(ledger: Ledger) -> None:
    assert ledger.differences("MongoDB", {"a": "one", "b": "two", "c": "three"}, None) == []
    assert ledger.out_of_order(ROOM, ["other event", "a", "b", "c"]) == []


@pytest.mark.parametrize(
    ("found", "heading"),
    [
        ({"a": "one", "b": "two"}, "1 accepted, but not in MongoDB:"),
        ({"a": "one", "b": "two", "c": "three", "d": "three"}, "1 in MongoDB, but never accepted:"),
        ({"a": "one", "b": "two", "c": "two"}, "1 with another text in MongoDB:"),
    ],
)
def test_a_difference_is_told(ledger: Ledger, found: dict[str, str], heading: str) -> None:
    assert ledger.differences("MongoDB", found, None)[0] == heading


def test_a_message_behind_a_later_one_is_told(ledger: Ledger) -> None:
    heading, line = ledger.out_of_order(ROOM, ["a", "c", "b"])
    assert heading == "1 out of order in the room's log:"
    assert line.startswith("  b: “two”")


def test_one_id_for_two_messages_is_told(ledger: Ledger) -> None:
    with pytest.raises(AssertionError, match="two messages have the id a"):
        ledger.accept("a", Posting(ROOM, "another"))


def test_an_event_at_two_offsets_is_told() -> None:
    view = View(ROOM, pushed=[("e", 1, "a"), ("e", 2, "b"), ("e", 1, "a"), ("e", 3, "a")])
    assert view.pushed_twice() == {("e", "a"): {1, 3}}


def test_another_life_of_the_log_may_have_an_event_elsewhere() -> None:
    view = View(ROOM, pushed=[("old", 7, "a"), ("old", 8, "b"), ("new", 1, "b")])
    assert view.pushed_twice() == {}
    assert view.in_log_order() == ["a", "b", "b"]
