from __future__ import annotations

import logging
import threading
import uuid
from contextlib import closing
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from bus.errors import BrokerUnavailable, PublishRefused
from bus.publishing import Publisher
from webapp.audit.models import AuditEntry
from webapp.outbox import expiry, relay, services
from webapp.outbox.models import OutboxEvent
from webapp.rooms.memberships import add_member
from webapp.rooms.services import create_room


def age_rows():
    OutboxEvent.objects.update(created_at=timezone.now() - timedelta(seconds=5))


def test_a_rolled_back_change_publishes_nothing(browser, broker):
    alice = browser("alice")

    def create_and_fail():
        with transaction.atomic():
            create_room(alice.user, "Kitchen")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        create_and_fail()
    assert not OutboxEvent.objects.exists()
    assert broker.taken() == []


def test_without_a_broker_the_change_holds_and_its_events_wait(browser, broker, caplog):
    alice, bob = browser("alice"), browser("bob")
    broker.stop()
    with caplog.at_level(logging.WARNING):
        response = alice.send("POST", "/api/rooms", {"name": "Kitchen"})
        add_member(uuid.UUID(response.json()["id"]), bob.user, actor=alice.user)
    assert response.status_code == 201
    assert "outbox_relay will publish" in caplog.text
    assert OutboxEvent.objects.count() == 5

    broker.start()
    age_rows()
    relay.sweep()
    types = [event.type for event in broker.taken()]
    assert types == ["room.created", "member.added", "member.added"]
    assert not OutboxEvent.objects.exists()


def test_what_waits_goes_before_what_is_new(browser, broker):
    alice, bob = browser("alice"), browser("bob")
    broker.stop()
    membership = create_room(alice.user, "Kitchen")
    broker.start()
    add_member(membership.room_id, bob.user, actor=alice.user)
    published = broker.taken()
    assert [event.type for event in published] == ["room.created", "member.added", "member.added"]
    assert [event.id for event in published] == sorted(event.id for event in published)


def test_rows_stay_when_publishing_fails(browser, broker):
    alice = browser("alice")
    broker.stop()
    room_id = create_room(alice.user, "Kitchen").room_id
    with pytest.raises(BrokerUnavailable):
        services.flush_room(room_id)
    assert OutboxEvent.objects.count() == 3


def test_nothing_goes_before_an_earlier_event_that_was_refused(browser, broker, monkeypatch):
    alice = browser("alice")
    broker.stop()
    room_id = create_room(alice.user, "Kitchen").room_id
    broker.start()
    broker.take_only("room.*.member.*")
    with closing(Publisher(settings.BROKER_URL)) as unguarded:
        monkeypatch.setattr(services, "publisher", unguarded)
        with pytest.raises(PublishRefused):
            services.flush_room(room_id)
    assert broker.taken() == []
    assert OutboxEvent.objects.filter(room_id=room_id).count() == 2


def test_more_rows_than_a_batch_go_in_order(browser, broker, monkeypatch):
    monkeypatch.setattr(services, "BATCH", 2)
    alice, bob, carol = browser("alice"), browser("bob"), browser("carol")
    broker.stop()
    room_id = create_room(alice.user, "Kitchen").room_id
    add_member(room_id, bob.user, actor=alice.user)
    add_member(room_id, carol.user, actor=alice.user)
    broker.start()
    services.flush_room(room_id)
    published = [event.id for event in broker.taken()]
    assert len(published) == 4
    assert published == sorted(published)


def test_an_event_that_cannot_be_read_holds_up_its_own_room_alone(browser, broker, caplog):
    alice = browser("alice")
    broker.stop()
    rooms = [create_room(alice.user, name).room_id for name in ("Kitchen", "Cellar")]
    broker.start()
    broken = OutboxEvent.objects.filter(room_id=rooms[0]).first()
    OutboxEvent.objects.filter(id=broken.id).update(event='{"v":2}')
    age_rows()
    with caplog.at_level(logging.ERROR):
        relay.sweep()
    assert {event.room_id for event in broker.taken()} == {rooms[1]}
    assert str(rooms[0]) in caplog.text
    assert OutboxEvent.objects.filter(room_id=rooms[0]).count() == 2


def test_rooms_whose_events_cannot_be_read_hold_up_none_however_many(browser, broker, monkeypatch):
    monkeypatch.setattr(relay, "ROOMS_PER_SWEEP", 2)
    alice = browser("alice")
    broker.stop()
    rooms = [create_room(alice.user, name).room_id for name in ("One", "Two", "Three")]
    broker.start()
    OutboxEvent.objects.filter(room_id__in=rooms[:2]).update(event='{"v":2}')
    age_rows()
    assert relay.sweep(relay.sweep(relay.sweep())) == 0
    assert {event.room_id for event in broker.taken()} == {rooms[2]}


def test_the_relay_leaves_young_rows_to_their_request(browser, broker):
    alice = browser("alice")
    broker.stop()
    create_room(alice.user, "Kitchen")
    broker.start()
    relay.sweep()
    assert OutboxEvent.objects.count() == 3
    age_rows()
    relay.sweep()
    assert OutboxEvent.objects.count() == 0


def test_the_relay_deletes_what_has_expired(transactional_db, monkeypatch):
    monkeypatch.setattr(expiry, "BATCH", 2)
    now = timezone.now()
    for number in range(5):
        Session.objects.create(session_key=f"old{number}", expire_date=now - timedelta(seconds=1))
    Session.objects.create(session_key="valid", expire_date=now + timedelta(days=1))
    AuditEntry.objects.create(action="old", at=now - timedelta(days=366))
    AuditEntry.objects.create(action="young", at=now - timedelta(days=364))

    class StopWhenDeleted:
        sweeps = 0

        def wait(self, seconds):
            self.sweeps += 1
            return self.sweeps > 10 or Session.objects.count() == AuditEntry.objects.count() == 1

    relay.run(StopWhenDeleted())
    assert [session.session_key for session in Session.objects.all()] == ["valid"]
    assert [entry.action for entry in AuditEntry.objects.all()] == ["young"]


def test_what_is_committed_counts_though_the_database_then_takes_no_writes(
    browser, broker, set_read_only
):
    alice = browser("alice")
    with transaction.atomic():
        transaction.on_commit(lambda: set_read_only(True))
        create_room(alice.user, "Kitchen")
    assert {event.type for event in broker.taken()} == {"room.created"}
    assert OutboxEvent.objects.count() == 3
    set_read_only(False)
    age_rows()
    relay.sweep()
    assert "member.added" in [event.type for event in broker.taken()]


@pytest.mark.parametrize("error", [InterfaceError, OperationalError])
def test_the_relay_outlives_a_lost_connection_to_the_database(
    error, transactional_db, monkeypatch, caplog
):
    stop = threading.Event()

    def fail(*arguments):
        stop.set()
        raise error("lost")

    monkeypatch.setattr(relay, "sweep", fail)
    relay.run(stop)  # it raises nothing
    assert "trying again" in caplog.text


def test_the_relay_outlives_a_broker_that_is_away(browser, broker, caplog):
    alice = browser("alice")
    broker.stop()
    create_room(alice.user, "Kitchen")
    age_rows()

    class StopAfterTwoSweeps:
        sweeps = 0

        def wait(self, seconds):
            self.sweeps += 1
            if self.sweeps == 2:
                broker.start()
            return self.sweeps > 2

    with caplog.at_level(logging.WARNING):
        relay.run(StopAfterTwoSweeps())
    assert "trying again" in caplog.text
    assert not OutboxEvent.objects.exists()
