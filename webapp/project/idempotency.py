"""The header Idempotency-Key: 1 to 255 visible ASCII characters, a new one for each request."""

from __future__ import annotations

import hashlib
import re

from webapp.project.errors import InvalidInput

MAX_KEY = 255
_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")


def hash_key(key: str) -> str:
    """The form in which a key is stored, because MySQL's usual collations treat "a" and "A" as
    equal. Raises InvalidInput for a malformed key."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters.",
            "invalid_idempotency_key",
        )
    return hash_request(key)


def hash_request(text: str) -> str:
    """What a key stands for, for ``check_same``."""
    return hashlib.sha256(text.encode()).hexdigest()


def check_same(known: str, request: str) -> None:
    """Raises InvalidInput if a key was used for ``known`` and comes again with ``request``."""
    if known != request:
        raise InvalidInput(
            "This Idempotency-Key was used for another request. Use a new one for each.",
            "idempotency_key_reused",
        )
