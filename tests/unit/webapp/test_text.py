"""The rules for names, which one can distinguish, and for messages, in which one sees something."""

from __future__ import annotations

import unicodedata

import pytest

from webapp.project.errors import InvalidInput
from webapp.project.text import check_message, clean_name, is_visible
from webapp.rooms.models import Room

# Nothing of these is seen, alone or beside one another.
BLANKS = {
    "zero width space": "\u200b",
    "Hangul filler": "\u3164",
    "Hangul choseong filler": "\u115f",
    "halfwidth Hangul filler": "\uffa0",
    "empty Braille pattern": "\u2800",
    "soft hyphen": "\u00ad",
    "grapheme joiner": "\u034f",
    "Mongolian vowel separator": "\u180e",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "byte-order mark": "\ufeff",
    "word joiner": "\u2060",
    "noncharacter": "\uffff",
    "object replacement character": "\ufffc",
    "tag": "\U000e0061",
    "variation selector": "\ufe0f",
    "joiner": "\u200d",
    "non-joiner": "\u200c",
}
blanks = pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS.keys())
# Each needs an invisible character, or a mark, in the place where it stands.
REAL = [
    "Zoë",
    "می‌خواهم",
    "ക്‍ഷ ന്‍",
    "ᠮᠣᠩ᠋",
    "葛\U000e0100城",
    "👩‍🚒 crew",
    "❤️‍🔥 1️⃣ ☎️ ©️",
    "👁️‍🗨️ 🏳️‍🌈 👍🏽 🇩🇪",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "שָׁלוֹם",
    "x̂y",
    "newer than this Python: \U0001fae8",
]


@blanks
@pytest.mark.parametrize("form", ["{}", "{0}{0}", " {} ", "alice{}", "al{}ice", "{}alice"])
def test_a_name_is_neither_blank_nor_another_in_disguise(blank: str, form: str) -> None:
    with pytest.raises(InvalidInput, match=r"“name” (has|is)"):
        clean_name(form.format(blank), "name", 80)


@pytest.mark.parametrize("mark", ["\u200e", "\u200f", "\u061c", "\u202a", "\u202e", "\u2069"])
def test_a_name_sets_no_direction(mark: str) -> None:
    with pytest.raises(InvalidInput, match=rf"invisible character in it \(U\+{ord(mark):04X}\)"):
        clean_name(f"שלום{mark}", "name", 80)


@pytest.mark.parametrize("name", REAL)
def test_what_the_scripts_of_the_world_need_is_accepted(name: str) -> None:
    assert clean_name(name, "name", 80) == name
    assert check_message(name) == name


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" Alice \u3000 Archer\n", "Alice Archer"),
        ("Zoe\u0308", "Zoë"),
        ("a\u00a0\u2003b", "a b"),
        ("e\u0301" * 80, "é" * 80),
        ("x" + " " * 100 + "y", "x y"),
    ],
)
def test_names_that_look_the_same_are_stored_the_same(typed: str, stored: str) -> None:
    assert clean_name(typed, "name", 80) == stored
    assert unicodedata.is_normalized("NFC", stored)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "must be text"),
        ("", "empty"),
        (" \u3000", "empty"),
        ("\u0301", "empty"),
        ("a\nb", "control characters"),
        ("a\x1bb", "control characters"),
        ("a\ud800b", "control characters"),
        ("a\u2028b", "control characters"),
        ("x" * 81, "81 characters; at most 80"),
    ],
)
def test_bad_names_are_refused_with_what_is_wrong(name: object, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"“name” .*{problem}"):
        clean_name(name, "name", 80)


@pytest.mark.parametrize("body", ["x", "x" * 4_000, "🙂" * 4_000, "a\nb\tc", " x ", "\ufeffa\x08b"])
def test_bodies_that_may_be_posted_stay_as_they_are(body: str) -> None:
    assert check_message(body) == body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "empty_body"),
        (" \n\u3000\t", "empty_body"),
        ("".join(BLANKS.values()), "empty_body"),
        ("x" * 4_001, "body_too_long"),
        ("a\0b", "invalid_characters"),
        ("a\ud800b", "invalid_characters"),
        (None, "invalid_body"),
        (["x"], "invalid_body"),
        (b"x", "invalid_body"),
    ],
)
def test_bodies_that_may_not(body: object, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_message(body)
    assert refused.value.code == code


@blanks
def test_a_blank_is_nothing_to_see(blank: str) -> None:
    assert not is_visible(f" {blank}\n{blank}")
    assert is_visible(f"{blank}.")


@pytest.mark.parametrize("blank", ["\u3164", "\u200b\u2800"])
def test_the_pages_and_the_api_say_so(browser, blank: str) -> None:
    alice = browser("alice")
    page = alice.post("/rooms/", {"name": blank})
    assert page.status_code == 400
    assert "invisible character" in page.content.decode()
    answer = alice.send("POST", "/api/rooms", {"name": blank})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_input")
    assert not Room.objects.exists()
    room = alice.send("POST", "/api/rooms", {"name": "Zoe\u0308  room"}).json()
    assert room["name"] == "Zoë room"
    answer = alice.send("POST", f"/api/rooms/{room['id']}/messages", {"body": blank})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "empty_body")
