"""Which message a line is, over every way in which a file may be imported again."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Sequence

import pytest

from webapp.importing import ids
from webapp.importing.ids import GAP, PLACES, RoomIds, fingerprint, message_id, parts_of

NOON = 1_103_976_000_000

Text = tuple[int, str]


class History:
    """The messages of one room, in the order in which the history shows them."""

    def __init__(self) -> None:
        self.messages: dict[uuid.UUID, str] = {}

    @property
    def bodies(self) -> list[str]:
        return [self.messages[event_id] for event_id in sorted(self.messages)]

    def store(self, published: dict[uuid.UUID, str]) -> None:
        self.messages = published | self.messages

    def publish(self, *lines: Text) -> dict[uuid.UUID, str]:
        """What an import of ``lines`` publishes."""
        room = RoomIds(self.messages)
        named = [(room.next(at, fingerprint(body)), body) for at, body in lines]
        return {event_id: body for event_id, body in named if event_id}

    def take(self, *lines: Text) -> int:
        """Imports and stores ``lines``; returns how many were new."""
        published = self.publish(*lines)
        self.store(published)
        return len(published)


def at_noon(bodies: Sequence[str]) -> list[Text]:
    return [(NOON, body) for body in bodies]


@pytest.fixture
def history() -> History:
    return History()


def test_an_id_is_a_uuid7_of_its_parts() -> None:
    made = message_id(NOON, PLACES - 1, fingerprint("a", "b"))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert parts_of(made) == (NOON, PLACES - 1, fingerprint("a", "b"))
    assert fingerprint("a", "b") != fingerprint("", "ab")


@pytest.mark.parametrize(
    "bodies",
    [
        list("abcdefgh"),
        [str(number) for number in range(5_000)],
        ["ok"] * 4_100,
        ["ok", "x", "ok", "ok", "x"],
    ],
    ids=["eight", "5,000", "4,100 equal", "mixed"],
)
def test_lines_of_one_time_keep_their_order_and_their_number(
    history: History, bodies: list[str]
) -> None:
    assert history.take(*at_noon(bodies)) == len(bodies)
    assert history.bodies == bodies
    assert history.take(*at_noon(bodies)) == 0


def test_100_000_equal_lines_of_one_time_are_all_stored(history: History) -> None:
    lines = at_noon(["ok"] * 100_000)
    assert history.take(*lines) == 100_000
    assert history.take(*lines) == 0


def test_an_equal_line_that_comes_back_is_another_line(history: History) -> None:
    lines = [(NOON + 1, "ok"), (NOON + 2, "x"), (NOON + 1, "ok")]
    assert history.take(*lines) == 3
    assert history.bodies == ["ok", "ok", "x"]


def test_lines_that_are_not_sorted_keep_their_order_within_a_millisecond(history: History) -> None:
    history.take(*((NOON + number % 3, str(number)) for number in range(30)))
    assert history.bodies == [str(n) for third in range(3) for n in range(third, 30, 3)]


def test_a_file_that_has_grown_adds_what_is_new(history: History) -> None:
    history.take(*at_noon("abc"))
    assert history.take(*at_noon("abcabd")) == 3
    assert history.bodies == list("abcabd")


def test_lines_put_in_the_middle_are_added_there_and_shift_nothing(history: History) -> None:
    history.take(*at_noon("bdf"))
    assert history.take(*at_noon("abcdefg")) == 4
    assert history.take(*at_noon("abcdefg")) == 0
    assert history.take(*at_noon("abcXYdefgh")) == 3
    assert history.bodies == list("abcXYdefgh")


def test_lines_taken_out_shift_nothing(history: History) -> None:
    history.take(*at_noon("abcdef"))
    assert history.take(*at_noon("bdeg")) == 1
    assert sorted(history.bodies) == list("abcdefg")
    assert [body for body in history.bodies if body in "bdeg"] == list("bdeg")


def test_more_lines_than_a_gap_holds_are_all_stored(history: History) -> None:
    history.take(*at_noon("az"))
    middle = [str(number) for number in range(3 * GAP)]
    assert history.take(*at_noon(["a", *middle, "z"])) == len(middle)
    assert history.take(*at_noon(["a", *middle, "z"])) == 0
    assert set(history.bodies) == {"a", *middle, "z"}


def test_more_lines_than_there_are_places_are_all_stored(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "PLACES", 10 * GAP)
    bodies = [str(number) for number in range(30)]
    assert history.take(*at_noon(bodies)) == 30
    assert history.take(*at_noon(bodies)) == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_was_stored_of_an_interrupted_run_the_next_one_completes_it(
    history: History, seed: int
) -> None:
    """Batches arrive in any order, and some of them only after the next run has published."""
    chance = random.Random(seed)
    lines = [(NOON + chance.randrange(3), chance.choice("abcd")) for _ in range(100)]
    expected = History()
    expected.take(*lines)
    first = history.publish(*lines[: chance.randrange(100)])
    early = {event_id: first[event_id] for event_id in first if chance.random() < 0.5}
    history.store(early)
    second = history.publish(*lines)
    history.store(first)
    history.store(second)
    assert history.messages == expected.messages
    assert history.take(*lines) == 0


@pytest.mark.parametrize("seed", range(20))
def test_lines_put_anywhere_again_and_again_are_stored_once(history: History, seed: int) -> None:
    chance = random.Random(seed)
    lines: list[Text] = []
    for _ in range(6):
        for _ in range(chance.randrange(10)):
            lines.insert(chance.randint(0, len(lines)), (NOON, chance.choice("abcdefgh")))
        history.take(*lines)
        assert history.take(*lines) == 0
        assert sorted(history.bodies) == sorted(body for _, body in lines)


def earlier_id(number: int, *content: str) -> uuid.UUID:
    """As versions before 27 November 2026 made it: a number and 62 bits of the hash."""
    digest = hashlib.blake2b("\0".join(content).encode(), digest_size=8).digest()
    rest = 7 << 76 | number << 64 | 0b10 << 62 | int.from_bytes(digest) >> 2
    return uuid.UUID(int=NOON << 80 | rest)


def test_what_an_earlier_version_imported_is_known(history: History) -> None:
    bodies = ["a", "b", "b", "b", "c"]
    history.store({earlier_id(number, body): body for number, body in enumerate(bodies)})
    assert history.take(*at_noon(bodies)) == 0
    assert history.take(*at_noon([*bodies, "b", "a"])) == 2
    assert history.take(*at_noon([*bodies, "b", "a"])) == 0
    assert history.bodies == [*bodies, "b", "a"]


def test_after_the_last_place_of_an_earlier_version_lines_are_stored(history: History) -> None:
    history.store({earlier_id(4_095, "a"): "a"})
    assert history.take(*at_noon("abbc")) == 3
    assert history.take(*at_noon("abbc")) == 0
