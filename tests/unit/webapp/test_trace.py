"""The trace of a request: in its response, in its log records, in the events that it causes."""

from __future__ import annotations

import logging

import pytest
from django.conf import settings
from django.db import transaction

from bus import events, topology
from bus.events import Person, RoomArchived
from bus.runtime import trace
from bus.transport import subscribe
from webapp.outbox import services

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("path", ["/health/live", "/nonsense/", "/static/chat/chat.css", "/api/x"])
def test_every_response_tells_it(client, db, path):
    assert trace.trace_id_of(client.get(path).headers["traceparent"])
    answer = client.get(path, headers={"traceparent": GIVEN})
    assert answer.headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert answer.headers["traceparent"] != GIVEN


def test_one_request_does_not_inherit_from_the_last(client):
    client.get("/health/live", headers={"traceparent": GIVEN})
    answer = client.get("/health/live")
    assert trace.trace_id_of(answer.headers["traceparent"]) != TRACE_ID
    assert trace.trace_id() is None


def test_the_log_names_the_route_and_not_the_path(client, db, caplog):
    room_id = str(events.new_id())
    with caplog.at_level(logging.DEBUG, "webapp.project.middleware"):
        client.get(f"/rooms/{room_id}/")
    assert "GET /rooms/<uuid:room_id>/: 302" in caplog.text
    assert room_id not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_the_outbox_remembers_the_trace_for_whoever_publishes(broker):
    room_id = events.new_id()
    event = events.make(
        RoomArchived, room_id=room_id, actor=Person(1, "alice"), data=events.EmptyData()
    )
    with trace.continued(GIVEN) as current, transaction.atomic():
        services.add(event)
    services.flush_room(room_id)
    source = subscribe(settings.BROKER_URL, topology.REDIS_PUBLISHER, prefetch=10)
    try:
        (delivery,) = source.receive(10, 5)
        source.ack([delivery])
    finally:
        source.close()
    assert delivery.headers["traceparent"] == current
