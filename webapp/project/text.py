"""Names that people give: of themselves and of rooms."""

from __future__ import annotations

import unicodedata

from webapp.project.errors import InvalidInput

# Control characters, lone surrogates, line and paragraph separators.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def clean_name(value: object, what: str, maximum: int) -> str:
    """``value`` without blanks around it, 1 to ``maximum`` characters, on one line.

    Raises InvalidInput, with ``what`` as the name of the field.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"“{what}” must be text.")
    name = value.strip()
    if not name:
        raise InvalidInput(f"“{what}” is empty.")
    if len(name) > maximum:
        raise InvalidInput(f"“{what}” has {len(name)} characters; at most {maximum} are accepted.")
    if any(unicodedata.category(character) in _REFUSED for character in name):
        raise InvalidInput(f"“{what}” has control characters in it.")
    return name
