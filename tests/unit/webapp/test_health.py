"""Readiness repeats its checks once a second, so the tests wait for what they say."""

from __future__ import annotations

import pytest

from bus.topology import MONGO_WRITER
from tests.support.wait import wait_until

NOTICE_SECONDS = 10.0


def test_live_needs_nothing(client):
    assert client.get("/health/live").json() == {"status": "ok"}


@pytest.mark.django_db(transaction=True)
def test_ready_says_what_is_reached(client, broker, mongo_server_of_web):
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    checks = client.get("/health/ready").json()["checks"]
    names = ("database", "broker", "topology", "history", "archive", "clock")
    assert checks == dict.fromkeys(names, "ok")


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_it_is_not_ready(client, broker):
    broker.stop()
    wait_until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health/ready").json()["checks"]["broker"] == "unreachable"


@pytest.mark.django_db(transaction=True)
def test_without_a_history_it_is_ready_and_says_so(client, broker, mongo_server_of_web):
    mongo_server_of_web.kill()

    def lacks_history():
        checks = client.get("/health/ready").json()["checks"]
        return checks["history"] in ("unreachable", "timeout") and checks["broker"] == "ok"

    try:
        wait_until(lacks_history)
        assert client.get("/health/ready").status_code == 200
    finally:
        mongo_server_of_web.start()


@pytest.mark.django_db(transaction=True)
def test_a_queue_that_is_missing_is_named(client, broker):
    def topology():
        return client.get("/health/ready").json()["checks"]["topology"]

    wait_until(lambda: topology() == "ok")
    broker.unbind(MONGO_WRITER)
    wait_until(lambda: topology() != "ok", NOTICE_SECONDS)
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["checks"] | {"history": "", "archive": "", "clock": ""} == {
        "database": "ok",
        "broker": "ok",
        "topology": "queue chat.mongo_writer is not bound to chat.events with room.*.message.*",
        "history": "",
        "archive": "",
        "clock": "",
    }
    broker.declare()
    wait_until(lambda: client.get("/health/ready").status_code == 200)
