"""The shares of connections and bytes, against a plain account of what is open."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bus.errors import SettingError
from bus.http.clients import TrustedProxies, network_of
from bus.http.connections import ConnectionTable
from bus.http.limits import HttpLimits
from bus.runtime.settings import Environment

LIMITS = HttpLimits(
    connections=12, connections_per_address=5, buffered=100, buffered_per_address=40
)
PROXY = "10.0.0.1"
ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", PROXY)
STEPS = 3_000


class Connection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.buffered = 0
        self.is_waiting = True
        self.is_open = True

    def disconnect(self) -> None:
        assert self.is_waiting, "a request that runs is never cut off"
        self.is_open = False

    def overdue(self, now: float) -> str | None:
        return None


class Play:
    """A table, and everything that was done to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.table = ConnectionTable(LIMITS, TrustedProxies([PROXY]))
        self.connections: list[Connection] = []

    def step(self) -> None:
        action = self.random.choice((self.open, self.open, self.close, self.turn, self.hold))
        action()
        self.connections = [each for each in self.connections if each.is_open]

    def open(self) -> None:
        connection = Connection(self.random.choice(ADDRESSES))
        self.connections.append(connection)
        if not self.table.add(connection):
            self.table.remove(connection)
            connection.is_open = False
            assert self.is_full(connection.address)

    def close(self) -> None:
        if connection := self.one():
            self.table.remove(connection)
            connection.is_open = False

    def turn(self) -> None:
        """A request begins to run, or waits for its client again."""
        if connection := self.one():
            connection.is_waiting = not connection.is_waiting
            (self.table.wait if connection.is_waiting else self.table.run)(connection)

    def hold(self) -> None:
        connection = self.one()
        if connection and connection.is_waiting:
            self.table.buffer(connection, self.random.randrange(60))

    def one(self) -> Connection | None:
        return self.random.choice(self.connections) if self.connections else None

    def is_full(self, address: str) -> bool:
        """Whether no connection waits that could make room for one more at ``address``."""
        others = [each for each in self.connections if each.is_open]
        own = [each for each in others if network_of(each.address) == network_of(address)]
        running = [sum(not each.is_waiting for each in group) for group in (own, others)]
        return running[0] >= LIMITS.connections_per_address or running[1] >= LIMITS.connections

    def check(self) -> None:
        counts: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for each in self.connections:
            counts[network_of(each.address)] += 1
            held[network_of(each.address)] += each.buffered if each.is_waiting else 0
        assert counts.total() <= LIMITS.connections
        for network in counts.keys() - {PROXY}:
            assert counts[network] <= LIMITS.connections_per_address
            assert held[network] <= LIMITS.buffered_per_address
        assert held.total() <= LIMITS.buffered


@pytest.mark.parametrize("seed", range(5))
def test_no_share_is_ever_exceeded(seed: int) -> None:
    play = Play(seed)
    for _ in range(STEPS):
        play.step()
        play.check()


def test_who_waits_longest_is_disconnected_and_ipv6_networks_count_as_one() -> None:
    table = ConnectionTable(LIMITS, TrustedProxies())
    connections = [Connection(f"2001:db8::{number}") for number in range(1, 8)]
    for connection in connections:
        assert table.add(connection)
    assert [each.is_open for each in connections] == [False, False] + [True] * 5
    table.wait(connections[2])
    newest = Connection("2001:db8::ffff")
    assert table.add(newest)
    assert connections[2].is_open
    assert not connections[3].is_open


def test_the_bounds_are_settings() -> None:
    settings = {"WEB_CONNECTIONS": "500", "WEB_CONNECTIONS_PER_ADDRESS": "20"}
    limits = HttpLimits.from_environment(Environment(settings), "WEB")
    assert (limits.connections, limits.connections_per_address) == (500, 20)
    with pytest.raises(SettingError, match="GATEWAY_CONNECTIONS_PER_ADDRESS"):
        HttpLimits.from_environment(
            Environment({"GATEWAY_CONNECTIONS_PER_ADDRESS": "0"}), "GATEWAY"
        )
