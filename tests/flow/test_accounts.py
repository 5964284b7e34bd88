"""Accounts on running servers: what ends a session closes its sockets."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.mail_folder import link_to
from tests.support.person import PASSWORD, Person, Socket
from tests.support.stack import Stack

NEW_PASSWORD = "another horse staple"


def is_closed(socket: Socket) -> bool:
    """As after a log-out."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.next("never")
    return closed.value.rcvd is not None and closed.value.rcvd.code == 4401


def test_a_reset_of_the_password_by_mail_closes_the_sockets(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    elsewhere = Person(backend.base_url, "alice")
    with alice.open_socket() as socket:
        elsewhere.submit("/accounts/password/reset/", email=alice.email)
        link = link_to(backend, alice.email, "/accounts/password/reset/")
        form = urlsplit(elsewhere.get(link).url).path
        elsewhere.submit(form, password1=NEW_PASSWORD, password2=NEW_PASSWORD)
        assert is_closed(socket)
    assert alice.api("GET", "rooms").status_code == 401
    elsewhere.submit("/accounts/login/", login=alice.email, password=NEW_PASSWORD)
    elsewhere.make_room("garden")


def test_logging_out_elsewhere_and_a_new_password_close_the_other_sockets(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    for end in ("sessions", "password"):
        phone = Person(backend.base_url, "alice")
        phone.submit("/accounts/login/", login=alice.email, password=PASSWORD)
        with phone.open_socket() as socket:
            if end == "sessions":
                alice.submit("/accounts/sessions/", action="/accounts/sessions/")
            else:
                new = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
                path = "/accounts/password/"
                alice.submit(path, action=path, oldpassword=PASSWORD, **new)
            assert is_closed(socket)
        assert phone.api("GET", "rooms").status_code == 401
        with alice.open_socket() as hers:
            hers.subscribe(room)
