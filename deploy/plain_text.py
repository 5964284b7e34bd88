"""Output to a terminal or file whose encoding lacks some characters, such as ASCII."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

HANDLER = "chatbus-plain"
# What the texts of chatbus contain. All else comes from data, and is escaped.
PLAIN = {"…": "...", "–": "-", "→": "->", "µ": "u", "“": '"', "”": '"', "’": "'"}


def show_every_character(*streams: TextIO) -> None:
    """Makes ``streams`` write a character that their encoding lacks in another way, instead of
    raising UnicodeEncodeError."""
    codecs.register_error(HANDLER, _replace)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    text = "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return text, error.end
