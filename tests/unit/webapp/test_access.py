"""Who may do what with a room and its invitations: every address and method, for everybody."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest
from django.utils import timezone

from webapp.invitations.links import make_link
from webapp.invitations.models import LIFE, Invitation, InvitationLink
from webapp.project.urls import api
from webapp.rooms.models import Membership, Removal, Room

ROLES = ("stranger", "outsider", "invited", "member", "removed", "admin", "owner")
# `{victim}` is another member, `{own}` whoever asks; `{offer}` is made to `invited`.
TABLE = """
GET    rooms                                        401 200 200 200 200 200 200
POST   rooms                                        401 201 201 201 201 201 201
GET    public-rooms                                 401 200 200 200 200 200 200
POST   rooms/{room}/join                            401 403 403 200 403 200 200
GET    rooms/{room}                                 401 403 403 200 403 200 200
PATCH  rooms/{room}                                 401 403 403 403 403 200 200
DELETE rooms/{room}                                 401 403 403 403 403 403 204
GET    rooms/{room}/messages                        401 403 403 200 403 200 200
POST   rooms/{room}/messages                        401 403 403 202 403 202 202
GET    rooms/{room}/log                             401 403 403 200 403 200 200
GET    rooms/{room}/members                         401 403 403 200 403 200 200
PATCH  rooms/{room}/members/{victim}                401 403 403 403 403 403 200
DELETE rooms/{room}/members/{victim}                401 403 403 403 403 204 204
DELETE rooms/{room}/members/{own}                   401 204 204 204 204 204 409
GET    rooms/{room}/invitations                     401 403 403 403 403 200 200
POST   rooms/{room}/invitations                     401 403 403 403 403 202 202
DELETE rooms/{room}/invitations/{offer}             401 403 403 403 403 204 204
GET    rooms/{room}/invitation-links                401 403 403 403 403 200 200
POST   rooms/{room}/invitation-links                401 403 403 403 403 201 201
DELETE rooms/{room}/invitation-links/{link}         401 403 403 403 403 204 204
GET    invitations                                  401 200 200 200 200 200 200
POST   invitations/{offer}/accept                   401 404 200 404 404 404 404
POST   invitations/{offer}/decline                  401 404 204 404 404 404 404
GET    invitations/{token}                          401 200 200 200 200 200 200
POST   invitations/{token}/accept                   401 200 200 200 403 200 200
"""
BODIES = {
    "POST rooms": {"name": "Kitchen"},
    "PATCH rooms/{room}": {"name": "Cellar"},
    "POST rooms/{room}/messages": {"body": "hi"},
    "PATCH rooms/{room}/members/{victim}": {"role": "owner"},
    "POST rooms/{room}/invitations": {"email": "new@example.org"},
    "POST rooms/{room}/invitation-links": {},
}
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@dataclass
class Scene:
    people: dict[str, Any]
    places: dict[str, str]

    def call(self, role: str, method: str, path: str) -> int:
        person = self.people[role]
        own = {"own": str(person.user.id if person.user else self.people["victim"].user.id)}
        address = path.format(**self.places, **own)
        body = BODIES.get(f"{method} {path}")
        return int(person.send(method, f"/api/{address}", body).status_code)


@pytest.fixture
def scene(browser, room, broker, settings, mongo_server_of_web):
    from tests.unit.webapp.conftest import Browser

    settings.REDIS_URL = broker.other_database
    owner, _ = room
    names = ("outsider", "invited", "member", "removed", "admin", "victim")
    people = {"owner": owner, "stranger": Browser()} | {name: browser(name) for name in names}
    its = Room.objects.get()
    for name, role in (("member", "member"), ("admin", "admin"), ("victim", "member")):
        Membership.objects.create(room=its, user=people[name].user, role=role)
    Removal.objects.create(room=its, user=people["removed"].user)
    email = people["invited"].user.email
    offer = Invitation.objects.create(
        room=its, inviter=owner.user, email=email, expires_at=timezone.now() + LIFE
    )
    link, token = make_link(its.id, actor=owner.user)
    places = {
        "room": str(its.id),
        "victim": str(people["victim"].user.id),
        "offer": str(offer.id),
        "link": str(link.id),
        "token": token,
    }
    return Scene(people, places)


def state():
    """What a refusal leaves as it is."""
    models = (Room, Membership, Invitation, InvitationLink)
    return [list(model.objects.order_by("pk").values_list()) for model in models]


@pytest.mark.parametrize(("method", "path", "expected"), [(r[0], r[1], r[2:]) for r in ROWS])
def test_access(scene, method, path, expected):
    """Everybody tries, those first who may the least, and who is refused changes nothing."""
    for role, status in zip(ROLES, map(int, expected), strict=True):
        before = state()
        assert scene.call(role, method, path) == status, role
        if status >= 400:
            assert state() == before, role


def test_the_table_has_every_address_and_method():
    listed = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path, *_ in ROWS}
    views = [
        (re.sub(r"<[^>]+>", "{}", str(each.pattern)), each.callback.view_class)
        for each in api
        if str(each.pattern).startswith(("rooms", "public-rooms", "invitations"))
    ]
    assert listed == {
        (method.upper(), route)
        for route, view in views
        for method in ("get", "post", "put", "patch", "delete")
        if inspect.isfunction(getattr(view, method, None))
    }
