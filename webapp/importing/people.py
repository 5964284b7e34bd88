"""The users, rooms and memberships that imported messages need; makes those that are missing."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TypeVar

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models import Model

from bus.errors import PermanentError
from bus.events import Person
from webapp.accounts.models import User
from webapp.importing.lines import Line, room_id
from webapp.rooms.memberships import add_member, ensure_owner
from webapp.rooms.models import Membership, Role, Room

# RFC 2606: a domain that never exists. Nobody can receive mail or log in there.
_DOMAIN = "import.invalid"
# A row that another import inserts after the look for missing ones costs an attempt.
ATTEMPTS = 5

Key = TypeVar("Key", str, uuid.UUID, tuple[uuid.UUID, int])


def account(option: str, email: str) -> User:
    """The user with the address ``email``. Raises PermanentError, which names ``option``."""
    try:
        return User.objects.get_by_natural_key(email)
    except User.DoesNotExist:
        raise PermanentError(f"{option}: nobody is registered as {email}") from None


class People:
    """Knows which users, rooms and memberships of an import are in the database already.

    Imported users have no password, hence no sockets, so their memberships are written without
    events. ``readers`` are real users, who are added to every room as by an invitation; the first
    of them becomes the owner of each room that has none.
    """

    def __init__(self, readers: Sequence[User]) -> None:
        self._readers = readers
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
        self._let_in_readers(new_rooms)
        self._rooms |= new_rooms

    def person(self, name: str) -> Person:
        return Person(self._ids[name], name)

    @property
    def counts(self) -> tuple[int, int]:
        """How many users and rooms the import has met."""
        return len(self._ids), len(self._rooms)

    def rooms_without_owner(self) -> int:
        """How many of those rooms nobody owns."""
        met = Room.objects.filter(id__in=map(room_id, self._rooms))
        return met.exclude(memberships__role=Role.OWNER).count()

    def _make_users(self, names: set[str]) -> None:
        names_of = {email_of(name): name for name in names}
        found = User.objects.filter(email__in=names_of)

        def user(email: str) -> User:
            password = make_password(None)
            return User(email=email, display_name=names_of[email], password=password)

        _create_missing(names_of.keys(), lambda: found.values_list("email", flat=True), user)
        self._ids |= {
            names_of[email]: user_id for email, user_id in found.values_list("email", "id")
        }

    def _make_rooms(self, founders: dict[str, str]) -> None:
        names = {room_id(name): name for name in founders}
        found = Room.objects.filter(id__in=names)

        def room(wanted: uuid.UUID) -> Room:
            name = names[wanted]
            return Room(id=wanted, name=name, created_by_id=self._ids[founders[name]])

        _create_missing(names.keys(), lambda: found.values_list("id", flat=True), room)

    def _make_memberships(self, pairs: set[tuple[str, str]]) -> None:
        wanted = {(room_id(room), self._ids[user]) for room, user in pairs}
        rooms, users = ({pair[side] for pair in wanted} for side in (0, 1))
        found = Membership.objects.filter(room_id__in=rooms, user_id__in=users)

        def membership(pair: tuple[uuid.UUID, int]) -> Membership:
            return Membership(room_id=pair[0], user_id=pair[1], role=Role.MEMBER)

        _create_missing(wanted, lambda: found.values_list("room_id", "user_id"), membership)
        self._memberships |= pairs

    def _let_in_readers(self, rooms: Iterable[str]) -> None:
        for room in sorted(rooms):
            for reader in self._readers[:1]:
                ensure_owner(room_id(room), reader)
            for reader in self._readers:
                add_member(room_id(room), reader, actor=reader)


def _create_missing(
    wanted: Set[Key], known: Callable[[], Iterable[Key]], make: Callable[[Key], Model]
) -> None:
    """Inserts a row for each key in ``wanted`` that is not ``known``; another import may do the
    same at that time. Raises Django's database errors.

    Not by `ignore_conflicts`: on MySQL that is INSERT IGNORE, which stores a text that does not
    fit cut off, and characters that the table cannot store as question marks.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        rows = [make(key) for key in sorted(wanted - set(known()))]
        if not rows:
            return
        try:
            with transaction.atomic():
                type(rows[0])._default_manager.bulk_create(rows)
            return
        except IntegrityError:
            if not attempts_left:
                raise


def email_of(name: str) -> str:
    """The address of the imported user ``name``: readable, and different for every name."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "user"
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{readable}.{digest}@{_DOMAIN}"
