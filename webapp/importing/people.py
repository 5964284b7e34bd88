"""The users and rooms that imported messages need; made when they are missing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from django.contrib.auth.hashers import make_password
from django.db import transaction

from bus.events import Person
from webapp.accounts.models import User
from webapp.importing.lines import Line, room_id
from webapp.rooms.models import Membership, Role, Room
from webapp.rooms.services import add_member

# RFC 2606: a domain that never exists. Nobody can receive mail or log in there.
_DOMAIN = "import.invalid"


class People:
    """Knows who and what of an import is in the database already.

    Imported users have no password, hence no sockets, so their memberships are written without
    events; ``reader`` is a real user, who is added to every room as by an invitation.
    """

    def __init__(self, reader: User | None) -> None:
        self._reader = reader
        self._ids: dict[str, int] = {}
        self._rooms: set[str] = set()
        self._memberships: set[tuple[str, str]] = set()

    def prepare(self, lines: Iterable[Line]) -> None:
        """Makes the users, rooms and memberships of ``lines`` exist."""
        lines = list(lines)
        with transaction.atomic():
            self._make_users({line.user for line in lines} - self._ids.keys())
            first_speakers = {line.room: line.user for line in reversed(lines)}
            new_rooms = first_speakers.keys() - self._rooms
            self._make_rooms({room: first_speakers[room] for room in sorted(new_rooms)})
            self._make_memberships({(line.room, line.user) for line in lines} - self._memberships)
        self._let_in_reader(new_rooms)
        self._rooms |= new_rooms

    def person(self, name: str) -> Person:
        return Person(self._ids[name], name)

    @property
    def counts(self) -> tuple[int, int]:
        """How many users and rooms the import has met."""
        return len(self._ids), len(self._rooms)

    def _make_users(self, names: set[str]) -> None:
        emails = {email_of(name): name for name in names}
        User.objects.bulk_create(
            [
                User(email=email, display_name=name, password=make_password(None))
                for email, name in sorted(emails.items())
            ],
            ignore_conflicts=True,
        )
        rows = User.objects.filter(email__in=emails).values_list("email", "id")
        self._ids.update({emails[email]: user_id for email, user_id in rows})

    def _make_rooms(self, founders: dict[str, str]) -> None:
        Room.objects.bulk_create(
            [
                Room(id=room_id(name), name=name, created_by_id=self._ids[founder])
                for name, founder in founders.items()
            ],
            ignore_conflicts=True,
        )

    def _make_memberships(self, pairs: set[tuple[str, str]]) -> None:
        Membership.objects.bulk_create(
            [
                Membership(room_id=room_id(room), user_id=self._ids[user], role=Role.MEMBER)
                for room, user in sorted(pairs)
            ],
            ignore_conflicts=True,
        )
        self._memberships |= pairs

    def _let_in_reader(self, rooms: Iterable[str]) -> None:
        if self._reader:
            for room in sorted(rooms):
                add_member(room_id(room), self._reader, actor=self._reader)


def email_of(name: str) -> str:
    """The address of the imported user ``name``: readable, and different for every name."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "user"
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{readable}.{digest}@{_DOMAIN}"
