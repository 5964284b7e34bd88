"""Refuses passwords that are easy to guess."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from webapp.accounts.models import User

# As many as there are passwords of eight digits. Guessing so many takes Argon2id weeks of a
# processor; log-ins are limited besides.
MIN_GUESSES = 10**8
# zxcvbn's time grows with the square of the length. What is strong so far is strong.
LOOKED_AT = 72
SITE_WORDS = ("chatbus", "chat", "bus")


class GuessesValidator:
    """Counts the guesses that an attacker needs who knows words, names, keyboards and dates.

    The count is zxcvbn's (Wheeler, USENIX Security 2016).
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Raises ValidationError."""
        # Its dictionaries take 13 MB, which most processes never need.
        from zxcvbn import zxcvbn

        own = (user.display_name, *user.email.split("@")) if user else ()
        found = zxcvbn(password[:LOOKED_AT], user_inputs=[*SITE_WORDS, *own])
        if found["guesses"] < MIN_GUESSES:
            warning = found["feedback"]["warning"] or "Add another word or two."
            raise ValidationError(f"This password is easy to guess. {warning}", "easy_to_guess")

    def get_help_text(self) -> str:
        return "Several words are easier to remember than signs and digits."
