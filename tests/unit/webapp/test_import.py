"""What an import counts as stored, with a broker, a history, and no consumer but the test."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path

import pytest

from bus.errors import RetryableError
from bus.events import MessagePosted
from tests.unit.webapp.conftest import Broker
from webapp.importing import arrivals
from webapp.importing.importer import import_file
from webapp.importing.people import People
from webapp.rooms.memberships import ensure_owner
from webapp.rooms.models import Membership, Role, Room


@pytest.fixture
def file(tmp_path: Path) -> Path:
    room = f"room {uuid.uuid4()}"
    path = tmp_path / "log.jsonl"
    rows = [
        {"room": room, "at": "2004-12-25T09:14:00Z", "user": "u", "body": str(number)}
        for number in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(autouse=True)
def servers(transactional_db, broker, mongo_server_of_web):
    """What an import needs."""


def store(posted: list[MessagePosted]) -> None:
    from webapp.history.store import messages

    for event in posted:
        document = {"_id": str(event.id), "id": str(event.id), "room_id": str(event.room_id)}
        messages.insert_one(document | {"user": {"id": 1, "name": "u"}, "body": event.data.body})


def test_what_does_not_arrive_is_counted_and_the_next_run_adds_it(
    broker: Broker, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrivals, "STALL_SECONDS", 0.1)
    with pytest.raises(RetryableError, match="3 messages are published, but not in the history"):
        import_file(file, People([]))
    assert capsys.readouterr().out.startswith("0 messages stored, 0 were there, 0 lines malformed")

    first = broker.taken()
    store(first[::2])
    with pytest.raises(RetryableError, match="1 messages are published"):
        import_file(file, People([]))
    assert broker.taken() == first[1:2]
    assert capsys.readouterr().out.startswith("0 messages stored, 2 were there")


def test_the_import_ends_when_the_history_has_everything(
    broker: Broker, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = threading.Thread(target=import_file, args=(file, People([])))
    imported.start()
    taken: list[MessagePosted] = []
    while len(taken) < 3:
        taken += broker.taken()
    for event in reversed(taken):
        assert imported.is_alive()
        store([event])
    imported.join(30)
    assert not imported.is_alive()
    assert capsys.readouterr().out.startswith("3 messages stored, 0 were there")


def test_only_a_room_without_owner_gets_one(browser, broker: Broker) -> None:
    alice, bob = browser("alice").user, browser("bob").user
    room = Room.objects.create(name="Kitchen", created_by=alice)
    Membership.objects.create(room=room, user=alice)
    ensure_owner(room.id, alice)
    ensure_owner(room.id, bob)
    assert list(room.memberships.values_list("user_id", "role")) == [(alice.id, Role.OWNER)]
    [event] = broker.taken()
    assert (event.data.user.id, event.data.role) == (alice.id, "owner")
