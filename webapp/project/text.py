"""The rules for names and for message bodies, and what counts as visible."""

from __future__ import annotations

import re
import unicodedata

from bus.events import MAX_BODY_CHARACTERS
from webapp.project.errors import InvalidInput

# Control characters, halves of surrogate pairs, line and paragraph separators.
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Spaces, and marks that need a letter to stand on.
_BLANK_CATEGORIES = _CONTROLS | {"Zs", "Mn", "Me"}
_INVISIBLE = re.compile(
    # Default_Ignorable_Code_Point (DerivedCoreProperties.txt, Unicode 16).
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # Not in that list, but drawn as a blank or not at all: the empty Braille pattern, the null
    # notehead, annotation anchors, the object replacement character, hieroglyph controls,
    # noncharacters. (Chromium draws all other letters and symbols with some ink.)
    "\u2800\U0001d159\ufff9-\ufffc\U00013430-\U0001343f\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)
# Joiners, variation selectors and tags. Emoji and many scripts need one after a character.
_MODIFIER = re.compile(
    "[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef]"
)
# Letters of these scripts look the same with and without a modifier after them.
_UNMODIFIABLE = ("LATIN ", "GREEK ", "CYRILLIC ")
_KEYCAP = re.compile("[0-9#*]\ufe0f")


def is_visible(text: str) -> bool:
    """Whether a reader sees anything of ``text``.

    A character that this Python's Unicode does not know counts as visible: new emoji are.
    """
    return any(
        unicodedata.category(character) not in _BLANK_CATEGORIES and not _INVISIBLE.match(character)
        for character in text
    )


def clean_name(value: object, what: str, maximum: int) -> str:
    """Returns the name of a person or a room in the form in which it is stored.

    That form has 1 to ``maximum`` characters on one line, in Unicode's NFC, with one space for
    each run of blanks and none at the ends. Raises InvalidInput, which names the field
    ``what``. Invisible characters and those that set the writing direction are refused,
    because they make two names look alike or show a name mirrored.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"“{what}” must be text.")
    line = value.strip()
    if any(unicodedata.category(character) in _CONTROLS for character in line):
        raise InvalidInput(f"“{what}” has line breaks or control characters in it. Leave them out.")
    name = unicodedata.normalize("NFC", " ".join(line.split()))
    _check_no_invisible(name, what)
    if not is_visible(name):
        raise InvalidInput(f"“{what}” is empty: there is nothing to see in it.")
    if len(name) > maximum:
        raise InvalidInput(f"“{what}” has {len(name)} characters; at most {maximum} are accepted.")
    return name


def clean_text(value: object, what: str, maximum: int) -> str:
    """Returns a text of several lines, which may be empty, without blanks at its ends.

    Raises InvalidInput, which names the field ``what``, above ``maximum`` characters and for
    control characters other than line breaks.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"“{what}” must be text.")
    text = unicodedata.normalize("NFC", value.replace("\r\n", "\n").strip())
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in text.replace("\n", "")):
        raise InvalidInput(f"“{what}” has control characters in it. Leave them out.")
    if len(text) > maximum:
        raise InvalidInput(f"“{what}” has {len(text)} characters; at most {maximum} are accepted.")
    return text


def check_message(body: object) -> str:
    """Returns ``body`` unchanged if it may be posted; raises InvalidInput if not.

    A body has 1 to 4,000 characters, at least one of them visible. NUL is refused because it
    cannot be stored, half a surrogate pair because it cannot be encoded in UTF-8.
    """
    if not isinstance(body, str):
        raise InvalidInput("“body” must be text.", "invalid_body")
    if not is_visible(body):
        raise InvalidInput("The message is empty: there is nothing to see in it.", "empty_body")
    if len(body) > MAX_BODY_CHARACTERS:
        raise InvalidInput(
            f"The message has {len(body)} characters; at most {MAX_BODY_CHARACTERS} are accepted.",
            "body_too_long",
        )
    if "\0" in body or not _is_utf8(body):
        raise InvalidInput(
            "The message has a NUL or half a surrogate pair in it.", "invalid_characters"
        )
    return body


def _check_no_invisible(name: str, what: str) -> None:
    for found in _INVISIBLE.finditer(name):
        if not _modifies(name, found.start()):
            raise InvalidInput(
                f"“{what}” has an invisible character in it (U+{ord(found[0]):04X}). Leave it out."
            )


def _modifies(name: str, position: int) -> bool:
    """Whether the invisible character at ``position`` modifies the one before it."""
    if position == 0 or not _MODIFIER.match(name, position):
        return False
    before = name[position - 1]
    if not before.isascii():
        return not unicodedata.name(before, "").startswith(_UNMODIFIABLE)
    return bool(_KEYCAP.match(name, position - 1))


def _is_utf8(text: str) -> bool:
    """Whether ``text`` can be encoded in UTF-8; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
