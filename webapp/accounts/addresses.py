"""E-mail addresses: the one form in which they are stored and compared."""

from __future__ import annotations

import idna
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from webapp.project.errors import InvalidInput

MAX_EMAIL = 254


def normal_email(email: object) -> str:
    """Returns ``email`` in lower case with its domain in ASCII. Two domains stay two.

    International domains follow IDNA 2008 (RFC 5891) after the mapping of UTS 46, as in
    browsers: ``straße.example`` is not ``strasse.example``. They are stored in ASCII because
    MySQL's usual collations take letters with and without accents for the same. Raises
    InvalidInput.
    """
    if not isinstance(email, str):
        raise InvalidInput("“email” must be text.", "invalid_email")
    name, at, domain = email.strip().rpartition("@")
    try:
        address = f"{name}{at}{_ascii(domain)}".lower()
        validate_email(address)
    except (ValidationError, UnicodeError):
        raise _no_address() from None
    # Django's validator accepts controls, and the Kelvin sign, which lower() turns into a k.
    if not (name.isascii() and name.isprintable() and len(address) <= MAX_EMAIL):
        raise _no_address()
    return address


def _ascii(domain: str) -> str:
    """Raises UnicodeError for a domain that cannot exist."""
    if domain.isascii() or len(domain) > MAX_EMAIL:
        return domain
    # The codec in Python itself is IDNA 2003.
    return idna.encode(domain, uts46=True, transitional=False).decode()


def _no_address() -> InvalidInput:
    return InvalidInput(
        "“email” is not an e-mail address. Accepted are addresses such as name@example.org.",
        "invalid_email",
    )
