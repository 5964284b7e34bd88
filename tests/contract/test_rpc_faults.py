"""Held requests while workers, gateways and the broker end and come back.

The tests that break the broker come last: gateway and worker are the same for all of them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.rpc_fixtures import (
    Gateway,
    Hold,
    Site,
    broker,
    hold,
    pool,
    server,
    site,
    site_of_module,
)
from tests.support.freeze import frozen
from tests.support.wait import wait_until

__all__ = ["broker", "hold", "pool", "server", "site", "site_of_module"]


@pytest.fixture
def gateway(site: Site) -> Gateway:
    """It waits for answers longer than a broker may be away."""
    return site.lasting_gateway(GATEWAY_TIMEOUT="60")


def test_requests_wait_while_no_worker_runs(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    site.stop_lasting_worker()
    methods = ["GET", "POST"] * 8
    answers = [pool.submit(gateway.request, method, "/wait") for method in methods]
    wait_until(lambda: site.broker.waiting() == len(methods), what="waiting requests")
    assert not any(answer.done() for answer in answers)
    site.lasting_worker()
    assert [answer.result().status_code for answer in answers] == [200] * len(methods)


def test_a_killed_workers_get_runs_again(site: Site, gateway: Gateway, hold: Hold) -> None:
    worker = site.lasting_worker()
    answer, released = hold(gateway, "GET")
    worker.kill()
    site.lasting_worker()
    wait_until(lambda: len(site.runs()) == 2, what="the second run")
    released.touch()
    assert answer.result().content == b"held"


def test_a_killed_workers_post_is_a_502_and_ran_once(
    site: Site, gateway: Gateway, hold: Hold
) -> None:
    worker = site.lasting_worker()
    answer, released = hold(gateway, "POST")
    worker.kill()
    released.touch()
    site.lasting_worker()
    assert answer.result().status_code == 502
    assert "look before you send it again" in answer.result().text
    assert site.runs() == ["POST /hold"]


def test_sigterm_finishes_the_running_request_and_leaves_the_others(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor, hold: Hold
) -> None:
    worker = site.lasting_worker()
    answer, released = hold(gateway, "POST")
    others = [pool.submit(gateway.request, "POST", "/other") for _ in range(5)]
    wait_until(lambda: site.broker.waiting() == 5, what="waiting requests")
    worker.terminate()
    wait_until(lambda: "stopping" in worker.output, what="it has noticed")
    released.touch()
    assert answer.result().content == b"held"
    assert worker.wait() == 0
    assert site.runs() == ["POST /hold"]
    site.lasting_worker()
    assert [other.result().status_code for other in others] == [200] * 5
    assert site.runs().count("POST /other") == 5


def test_a_worker_that_does_not_finish_in_time_gives_its_request_back(
    site: Site, gateway: Gateway, hold: Hold
) -> None:
    site.stop_lasting_worker()
    worker = site.worker(WORKER_GRACE="0.1")
    answer, released = hold(gateway, "GET")
    worker.terminate()
    assert worker.wait() == 0
    released.touch()
    site.lasting_worker()
    assert answer.result().content == b"held"


def test_sigterm_of_the_gateway_answers_what_it_holds(site: Site, hold: Hold) -> None:
    gateway = site.gateway()
    site.lasting_worker()
    answer, released = hold(gateway, "POST")
    gateway.terminate()
    wait_until(lambda: "Shutting down" in gateway.output, what="the shutdown")
    released.touch()
    assert answer.result().content == b"held"
    assert gateway.wait() == 0


def test_a_broker_that_is_down_is_a_503_until_it_is_back(site: Site, gateway: Gateway) -> None:
    site.lasting_worker()
    assert gateway.get("/environ").status_code == 200
    site.broker.server.stop()
    try:
        answer = gateway.request("POST", "/lost")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert gateway.get("/gateway/health/ready").status_code == 503
        assert gateway.get("/gateway/health/live").status_code == 200
    finally:
        site.broker.server.start()
    wait_until(lambda: gateway.get("/environ").status_code == 200, what="the broker's return")
    assert "POST /lost" not in site.runs()


def test_a_post_to_a_stalled_broker_is_answered_truthfully_and_published_once(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    site.lasting_worker()
    assert gateway.get("/environ").status_code == 200
    with frozen(site.broker.server.pid):
        answer = pool.submit(gateway.request, "POST", "/stalled")
        wait_until(
            lambda: "may be on its queue" in gateway.output or answer.done(), what="the stall"
        )
    status = answer.result().status_code
    assert (status, site.runs()[1:]) in [(200, ["POST /stalled"]), (503, [])]


def test_an_answer_survives_a_crash_of_the_broker(site: Site, gateway: Gateway, hold: Hold) -> None:
    """And the request is run once, also when the broker has forgotten that a worker took it."""
    site.lasting_worker()
    answer, released = hold(gateway, "POST")
    site.broker.forget_deliveries()
    site.broker.server.kill()
    site.broker.server.start()
    released.touch()
    assert answer.result().content == b"held"
    wait_until(site.broker.is_settled, what="the worker has looked at it again")
    assert site.runs() == ["POST /hold"]
