"""Checks that stall, fail and are asked for too often."""

from __future__ import annotations

import logging
import threading

import pytest

from bus.runtime import health
from bus.runtime.health import Probes, is_ready
from tests.support.wait import wait_until

ASKERS = 20


def fail() -> None:
    raise ConnectionError("to 10.0.0.1 as root")


def test_each_check_tells_its_outcome() -> None:
    checks = Probes({"a": lambda: None, "b": lambda: "paused", "c": lambda: "2 lost", "d": fail})
    assert checks() == {"a": "ok", "b": "paused", "c": "2 lost", "d": "unreachable"}


def test_a_check_that_stalls_costs_a_bounded_time_and_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 1.0)
    go_on = threading.Event()
    calls = []

    def stall() -> None:
        calls.append(None)
        go_on.wait()

    checks = Probes({"stalled": stall, "well": lambda: None})
    assert checks() == {"stalled": "timeout", "well": "ok"}
    checks()
    assert len(calls) == 1
    go_on.set()
    wait_until(lambda: checks()["stalled"] == "ok", what="it recovers")


def test_asking_often_does_not_check_often() -> None:
    calls = []
    checks = Probes({"a": lambda: calls.append(None)})
    askers = [threading.Thread(target=checks) for _ in range(ASKERS)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(calls) == 1


def test_what_is_known_gets_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.05)
    outcomes = iter(["down", "ok"])
    checks = Probes({"a": lambda: next(outcomes)})
    assert checks() == {"a": "down"}
    wait_until(lambda: checks() == {"a": "ok"})


def test_the_reason_goes_to_the_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    broken = threading.Event()
    checks = Probes({"store": lambda: fail() if broken.is_set() else None})
    with caplog.at_level(logging.INFO, "bus.runtime.health"):
        checks()
        broken.set()
        for _ in range(5):
            wait_until(lambda: checks() == {"store": "unreachable"})
        broken.clear()
        wait_until(lambda: checks() == {"store": "ok"})
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [("WARNING", "store: to 10.0.0.1 as root"), ("INFO", "store: ok")]


@pytest.mark.parametrize(
    ("checks", "ready"),
    [
        ({}, True),
        ({"a": "ok", "b": "paused"}, True),
        ({"a": "ok", "b": "timeout"}, False),
        ({"a": "ok", "history": "unreachable"}, True),
    ],
)
def test_only_what_is_needed_decides(checks: dict[str, str], ready: bool) -> None:
    assert is_ready(checks, optional={"history"}) is ready
