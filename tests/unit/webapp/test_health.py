from __future__ import annotations

import pytest


def test_live_needs_nothing(client):
    assert client.get("/health/live").json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_says_what_is_reached(client, broker, mongo_server_of_web):
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["checks"] == {"database": "ok", "broker": "ok", "history": "ok"}


@pytest.mark.django_db
def test_without_a_broker_it_is_not_ready(client, broker):
    broker.stop()
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["broker"] == "unreachable"


@pytest.mark.django_db
def test_without_a_history_it_is_ready_and_says_so(client, broker, mongo_server_of_web):
    mongo_server_of_web.kill()
    try:
        response = client.get("/health/ready")
    finally:
        mongo_server_of_web.start()
    assert response.status_code == 200
    assert response.json()["checks"]["history"] in ("unreachable", "timeout")
