"""The mails that `chatbus up` writes to its data folder where it has no mail server."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.stack import Stack
from tests.support.wait import wait_until


def link_to(stack: Stack, email: str, path: str) -> str:
    """The path, beginning with ``path``, in the newest mail to ``email`` that has one."""

    def found() -> str | None:
        mails = [_read(mail) for mail in sorted((stack.data / "mail").glob("*.log"))]
        links = [link for to, link in map(_recipient_and_link, mails) if to == email and link]
        return next((link for link in reversed(links) if link.startswith(path)), None)

    return wait_until(found, what=f"a mail to {email} with {path}")


def _read(mail: Path) -> str:
    return mail.read_text(errors="replace")


def _recipient_and_link(mail: str) -> tuple[str | None, str | None]:
    to, link = (
        re.search(pattern, mail, re.M) for pattern in (r"^To: (\S+)$", r"https?://[^/\s]+(/\S+)")
    )
    return to and to[1], link and link[1]
