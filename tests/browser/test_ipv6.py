"""People chat on ``chatbus up --host ::1``: host names, origins and the policy fit IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.browser.conftest import Visit
from tests.support.person import Person
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def ipv6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with closing(Stack(tmp_path_factory.mktemp("ipv6"), {}, host="::1")) as stack:
        stack.start()
        stack.wait_until_ready()
        yield stack


@pytest.mark.parametrize("tier", ["web", "gateway"])
def test_two_chat_on_an_ipv6_address(ipv6: Stack, visit: Visit, tier: str) -> None:
    site = ipv6.base_url if tier == "web" else ipv6.gateway_url
    alice, bob = (visit(Person(site, name)) for name in ("alice", "bob"))
    for visitor in (alice, bob):
        visitor.register()
    alice.make_room("garden")
    alice.invite(bob.person.email)
    bob.accept("garden")
    alice.send("hello bob")
    bob.wait_for_texts("hello bob")
    assert [frame for frame in bob.frames if frame["type"] == "event"]
