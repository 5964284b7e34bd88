"""Which held requests go first: a priority by the beginning of the path. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bus.errors import SettingError
from bus.topology import MAX_PRIORITY

DEFAULT_PRIORITY = 5
# The first matching prefix decides.
PRIORITIES = (("/health/", 9), ("/api/", 7), ("/static/", 3))

Priorities = tuple[tuple[str, int], ...]


def priority_of(path: str, priorities: Priorities) -> int:
    """The priority of a request: that of the first prefix that matches ``path``."""
    fitting = (priority for prefix, priority in priorities if path.startswith(prefix))
    return next(fitting, DEFAULT_PRIORITY)


def parse_priorities(words: Iterable[str]) -> Priorities:
    """GATEWAY_PRIORITIES: ``/prefix=0…9`` words, which take precedence over the built-in ones.

    Raises SettingError.
    """
    own = []
    for word in words:
        prefix, _, number = word.rpartition("=")
        if not prefix.startswith("/") or not re.fullmatch(f"[0-{MAX_PRIORITY}]", number):
            raise SettingError(
                "GATEWAY_PRIORITIES",
                f"{word!r}; accepted is a list like /api/=7,/static/=2 with 0 to {MAX_PRIORITY}",
            )
        own.append((prefix, int(number)))
    return (*own, *PRIORITIES)
