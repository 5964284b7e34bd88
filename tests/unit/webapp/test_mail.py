"""Mails on their way to a real SMTP server that comes and goes."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.core.mail import BadHeaderError, send_mail
from django.db import transaction
from django.utils import timezone
from prometheus_client import REGISTRY

from bus.errors import SettingError
from bus.runtime.settings import Environment
from tests.support.certificates import Authority
from tests.support.mail_server import PASSWORD, USER, MailServer
from tests.support.ports import HOST
from webapp.mail import sender
from webapp.mail.models import WaitingMail
from webapp.mail.transport import transport_from

pytestmark = pytest.mark.django_db(transaction=True)
SENDER = "Chat <chat@example.org>"


@pytest.fixture(autouse=True)
def queue(settings: LazySettings) -> None:
    """pytest-django puts a backend in memory in its place."""
    settings.EMAIL_BACKEND = "webapp.mail.queue.Queue"
    settings.DEFAULT_FROM_EMAIL = SENDER


@pytest.fixture
def server(settings: LazySettings) -> MailServer:
    """Not running yet."""
    server = MailServer()
    settings.MAIL_TRANSPORT = transport(EMAIL_URL=f"smtp://{HOST}:{server.port}")
    return server


def transport(**values: str) -> object:
    return transport_from(Environment(values))


def write(recipient: str = "alice@example.org", subject: str = "Grüße") -> None:
    send_mail(subject, "Ein Bär.", None, [recipient])


def send() -> None:
    """As soon as the pauses have passed."""
    WaitingMail.objects.update(due_at=timezone.now())
    sender.send_due(threading.Event())


def test_a_mail_waits_until_the_mail_server_is_there_and_comes_once(server: MailServer) -> None:
    write()
    for _ in range(3):
        with pytest.raises(sender.MailServerAway):
            send()
    assert REGISTRY.get_sample_value("chatbus_waiting_mails") == 1
    with server.running():
        send()
        send()
    assert REGISTRY.get_sample_value("chatbus_waiting_mails") == 0
    (mail,) = server.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER, "alice@example.org", "Grüße")
    assert mail.get_content().strip() == "Ein Bär."
    assert mail["Auto-Submitted"] == "auto-generated"
    assert not WaitingMail.objects.exists()


def test_a_mail_of_a_change_that_is_rolled_back_is_never_sent() -> None:
    with transaction.atomic():
        write()
        transaction.set_rollback(True)
    assert not WaitingMail.objects.exists()


def test_no_line_break_gets_into_a_header() -> None:
    with pytest.raises(BadHeaderError):
        write(subject="Hi\nBcc: everybody@example.org")
    assert not WaitingMail.objects.exists()


def test_after_a_failure_it_pauses_and_one_process_tries_at_a_time(server: MailServer) -> None:
    write()
    mail = WaitingMail.objects.get()
    assert sender._claim(mail)
    assert not sender._claim(mail)
    with server.running():
        sender.send_due(threading.Event())
    assert server.mails == []
    with pytest.raises(sender.MailServerAway):
        send()
    mail.refresh_from_db()
    assert mail.due_at > timezone.now()
    assert mail.attempts == 2


def test_one_refused_address_delays_no_other_mail(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    write("nobody@example.org")
    server.answer = "451 try later"
    with server.running():
        send()
        assert WaitingMail.objects.count() == 1
        server.answer = "550 no such user"
        with caplog.at_level(logging.WARNING):
            send()
        server.answer = "250 OK"
        write()
        send()
    assert [mail["To"] for mail in server.mails] == ["alice@example.org"]
    assert not WaitingMail.objects.exists()
    assert "refuses its address with 550" in caplog.text
    assert "nobody@" not in caplog.text


def test_what_nobody_took_in_three_days_is_dropped(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MAIL_TRANSPORT = None
    write()
    send()
    assert WaitingMail.objects.count() == 1
    WaitingMail.objects.update(created_at=timezone.now() - timedelta(days=3, minutes=1))
    send()
    assert not WaitingMail.objects.exists()
    assert "1 mails were dropped" in caplog.text


@pytest.mark.parametrize("starttls", [False, True])
def test_the_password_goes_only_to_the_server_that_the_authority_certified(
    starttls: bool, server: MailServer, settings: LazySettings, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.certificate("mail", HOST).server_context()
    scheme, option = ("smtp", "?starttls=1") if starttls else ("smtps", "")
    url = f"{scheme}://{USER}:{quote(PASSWORD, safe='')}@{HOST}:{server.port}/{option}"
    write()
    with server.running(tls=context, starttls=starttls):
        settings.MAIL_TRANSPORT = transport(EMAIL_URL=url)
        with pytest.raises(sender.MailServerAway, match="certificate verify failed"):
            send()
        assert server.logins == []
        settings.MAIL_TRANSPORT = transport(EMAIL_URL=url, TLS_CA_FILE=str(authority.file))
        send()
    assert server.logins == [USER]
    assert len(server.mails) == 1


def test_mails_go_to_a_folder_each_in_a_file(settings: LazySettings, tmp_path: Path) -> None:
    settings.MAIL_TRANSPORT = transport(MAIL_FOLDER=str(tmp_path / "mail"))
    for name in ("alice", "bob"):
        write(f"{name}@example.org")
    send()
    mails = sorted(path.read_text() for path in (tmp_path / "mail").iterdir())
    assert ["To: alice@" in mails[0] or "To: alice@" in mails[1], len(mails)] == [True, 2]


def test_a_url_gives_the_backend_that_it_names() -> None:
    assert transport() is None
    assert transport(EMAIL_URL="file:///var/a%20b")["file_path"] == "/var/a b"
    assert transport(EMAIL_URL="file:/var/a")["file_path"] == "/var/a"
    assert "console" in transport(EMAIL_URL="console:")["backend"]
    given = transport(EMAIL_URL="smtps://u%40h:p%2F@mail.example")
    assert (given["username"], given["password"], given["port"]) == ("u@h", "p/", 465)
    assert (given["use_ssl"], given["use_tls"]) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        *("mail.example", "http://h", "file:folder", "file://", "console:x", "smtp://", "smtps:"),
        *("smtp://u:hunter2@mail.example", "smtp://u:hunter2@mail.example?starttls=0"),
        *("smtps://hunter2@h", "smtp://h/path", "smtp://h?starttls=yes", "smtps://h?starttls=1"),
        *("smtp://a;smtp://b", "smtp://u:hunter2@a,b?starttls=1", "smtp://h:99999"),
    ],
)
def test_a_bad_url_is_named_and_its_password_is_not_shown(url: str) -> None:
    with pytest.raises(SettingError, match=r"^EMAIL_URL: ") as raised:
        transport(EMAIL_URL=url)
    assert "hunter2" not in str(raised.value)
