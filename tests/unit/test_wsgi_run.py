"""How the request worker calls a WSGI application."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bus.errors import ReplyTooLarge, SettingError
from bus.rpc.messages import MAX_REPLY_BYTES, HeldRequest
from bus.rpc.wsgi import environ
from bus.runtime.settings import Environment
from consumers import request_worker
from consumers.request_worker import WorkerThreads, load_application, run
from tests.support.ports import HOST, free_port


def request(**changes: Any) -> HeldRequest:
    fields = {
        "method": "POST",
        "target": "/caf%C3%A9?x=%20",
        "headers": (("host", "example.org:8002"), ("content-type", "text/x"), ("x-a", "1")),
        "body": b"body",
        "client": "10.0.0.1",
        "scheme": "https",
        "deadline": 0.0,
    }
    return HeldRequest(**fields | changes)


def test_the_environment() -> None:
    made = environ(request())
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "x=%20",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "4",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "8002",
        "REMOTE_ADDR": "10.0.0.1",
        "HTTP_X_A": "1",
        "wsgi.url_scheme": "https",
        "wsgi.multithread": True,
    }
    assert {key: made[key] for key in expected} == expected
    assert "HTTP_CONTENT_TYPE" not in made
    assert made["wsgi.input"].read() == b"body"


def test_the_port_follows_the_scheme_and_repeated_headers_are_joined() -> None:
    headers = (("host", "[::1]"), ("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("x-a", "2"))
    made = environ(request(headers=headers))
    assert (made["SERVER_NAME"], made["SERVER_PORT"]) == ("::1", "443")
    assert (made["HTTP_COOKIE"], made["HTTP_X_A"]) == ("a=1; b=2", "1,2")


class Blocks:
    """An iterable that notes its close."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        self.closed = True


def test_written_and_returned_blocks_make_one_body_and_the_iterable_is_closed() -> None:
    blocks = Blocks(iter([b"b", b"", b"c"]))

    def application(environ: Any, start_response: Any) -> Blocks:
        start_response("201 Made", [("X-A", "1"), ("X-A", "2")])(b"a")
        return blocks

    reply = run(application, request())
    assert (reply.status, reply.body) == (201, b"abc")
    assert reply.headers == (("X-A", "1"), ("X-A", "2"))
    assert blocks.closed


def test_an_error_replaces_the_answer_that_was_begun() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"half")
        try:
            raise RuntimeError
        except RuntimeError:
            start_response("500 Sorry", [], sys.exc_info())
        return [b"sorry"]

    reply = run(application, request())
    assert (reply.status, reply.body) == (500, b"sorry")


def test_an_endless_answer_is_cut_and_closed() -> None:
    blocks = Blocks(iter(lambda: b"x" * 1_000_000, None))

    def application(environ: Any, start_response: Any) -> Blocks:
        start_response("200 OK", [])
        return blocks

    with pytest.raises(ReplyTooLarge, match=str(MAX_REPLY_BYTES)):
        run(application, request())
    assert blocks.closed


def twice(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


@pytest.mark.parametrize("application", [twice, lambda *_: [b"early"], lambda *_: []])
def test_applications_that_break_the_protocol(application: Any) -> None:
    with pytest.raises(RuntimeError):
        run(application, request())


@pytest.mark.parametrize(
    "name", ["no.such:thing", "json:nothing", "json", "not a name", "sys:path"]
)
def test_a_name_that_is_no_application(name: str) -> None:
    with pytest.raises(SettingError, match="WSGI_APPLICATION"):
        load_application(name)


def test_a_thread_that_ends_by_itself_ends_all_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    stop = threading.Event()

    def broken() -> None:
        raise RuntimeError("a thread ends by itself")

    assert not WorkerThreads([stop.wait, broken, stop.wait], stop, grace=20).run()
    assert stop.is_set()


def test_a_process_whose_thread_has_ended_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its supervisor starts it again."""
    monkeypatch.setattr(WorkerThreads, "run", lambda _: False)
    monkeypatch.setattr(request_worker, "stop_event", threading.Event)
    settings = {
        "BROKER_URL": f"amqp://{HOST}:{free_port()}",
        "WSGI_APPLICATION": "tests.contract.echo_app:application",
    }
    with pytest.raises(SystemExit) as ended:
        request_worker.main(Environment(settings))
    assert ended.value.code == 1


def test_threads_that_are_stopped_end_well() -> None:
    stop = threading.Event()
    assert WorkerThreads([stop.wait, stop.set], stop, grace=20).run()


def test_a_request_that_does_not_finish_is_left_to_another_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, release = threading.Event(), threading.Event()
    stop.set()
    assert WorkerThreads([stop.wait, release.wait], stop, grace=0.1).run()
    release.set()
    assert "1 requests did not finish within 0.1 s" in caplog.text
